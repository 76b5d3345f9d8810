"""Fine-tune a pretrained BERT with a new classifier on a GLUE task, to get a teacher. Uses only the task loss.

    python scripts/finetune_teacher.py --model_name_or_path bert-base-uncased --task_name RTE --data_dir DATA \\
        --output_dir TEACHER --do_train --do_eval --do_lower_case --per_gpu_train_batch_size 32 --num_train_epochs 3
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import finetuning_parser
from fsd.cli.checks import parse_training
from fsd.system.errors import exit_on_input_error


def main():
    args = parse_training(finetuning_parser(__doc__))

    from fsd.cli.finetune import finetune

    finetune(args)


if __name__ == "__main__":
    exit_on_input_error(main)
