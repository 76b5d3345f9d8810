"""Build the teacher memory of FSD_G and FSD_ILG: a k-means clustering of the teacher's features over a training set.

    python train_memory.py --model_name_or_path TEACHER --task_name RTE --data_dir DATA --output_dir MEM --do_train \\
        --per_gpu_train_batch_size 32 --max_seq_length 128 --num_centroid 100 --do_lower_case

Use the same teacher, length and padding mode (--mask_padding) as for training the student.
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import memory_parser
from fsd.cli.checks import parse_memory
from fsd.system.errors import exit_on_input_error


def main():
    args = parse_memory(memory_parser(__doc__))

    from fsd.cli.build_memory import build_memory

    build_memory(args)


if __name__ == "__main__":
    exit_on_input_error(main)
