"""Distil a BERT with the global inter-feature structure (FSD_G), which compares examples with the teacher memory.

    FSD_G: L_KD + beta · L_G        python run_glue_global.py --teacher_memory_path MEM …
    KD:    L_KD                     python run_glue_global.py --beta 0 …

Build the teacher memory (MEM) with train_memory.py.
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import global_parser
from fsd.cli.checks import parse_distillation
from fsd.cli.structure_flags import structure_weights
from fsd.system.errors import exit_on_input_error


def main():
    args = parse_distillation(global_parser(__doc__))

    from fsd.cli.distill import distill

    distill(args, **structure_weights(args), gamma_m=args.gamma_m)


if __name__ == "__main__":
    exit_on_input_error(main)
