"""Distil a BERT with a method that the paper compares with, or fine-tune the student without a teacher.

    fine-tuning: L_CE
                                                                --method fine-tuning
    PKD:         L_KD + beta · the [CLS] states of all layers but the last
                                                                --method pkd --beta 100
    RKD:         L_KD + rkd_distance · distances + rkd_angle · angles
                                                                --method rkd --rkd_distance 100 --rkd_angle 200
    MiniLM:      L_KD + beta · (attention + value relations)    --method minilm --beta 1

    python scripts/run_baseline.py --method pkd --beta 100 --model_name_or_path TEACHER --copy_teacher \\
        --model_name_or_path_for_copy bert-base-uncased --task_name RTE --data_dir DATA --output_dir OUT \\
        --do_train --do_eval --do_lower_case --per_gpu_train_batch_size 32
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import baseline_parser
from fsd.cli.checks import parse_baseline
from fsd.system.errors import exit_on_input_error


def main():
    args = parse_baseline(baseline_parser(__doc__))

    from fsd.cli.distill import distill

    distill(
        args, pkd=float(args.method == "pkd"), minilm=float(args.method == "minilm"),
        rkd_distance=args.rkd_distance, rkd_angle=args.rkd_angle,
    )


if __name__ == "__main__":
    exit_on_input_error(main)
