"""Fine-tune a BERT on a GLUE task, to be the teacher: the task loss alone, and a new classifier on the pretrained model.

    python scripts/finetune_teacher.py --model_name_or_path bert-base-uncased --task_name RTE --data_dir DATA \\
        --output_dir TEACHER --do_train --do_eval --do_lower_case --per_gpu_train_batch_size 32 --num_train_epochs 3
"""

from fsd import arguments
from fsd.files import exit_on_input_error


def main():
    parser = arguments.Parser(__doc__)
    arguments.add_data_arguments(parser)
    arguments.add_model_arguments(parser, "pretrained model")
    arguments.add_run_arguments(parser)
    arguments.add_output_arguments(parser)
    arguments.add_training_arguments(parser)
    arguments.add_hardware_arguments(parser)
    # No structure is compared here, so cutting batches to their longest example changes nothing but the speed.
    parser.set_defaults(mask_padding=True)
    args = arguments.parse_training(parser)

    from fsd.experiment import finetune

    finetune(args)


if __name__ == "__main__":
    exit_on_input_error(main)
