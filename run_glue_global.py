"""Distil a BERT with the global inter-feature structure (FSD_G), which compares examples with the teacher memory.

    FSD_G: L_KD + beta · L_G        python run_glue_global.py --teacher_memory_path MEM …
    KD:    L_KD                     python run_glue_global.py --beta 0 …

Build the teacher memory (MEM) with train_memory.py.
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import add_distillation_arguments, add_memory_arguments, add_objective_arguments
from fsd.cli.checks import parse_distillation
from fsd.cli.parser import Parser
from fsd.system.errors import exit_on_input_error


def main():
    parser = Parser(__doc__)
    add_memory_arguments(add_objective_arguments(parser))
    add_distillation_arguments(parser)
    args = parse_distillation(parser, gamma_g=1.0)

    from fsd.cli.distill import distill

    distill(args, gamma_g=1.0, gamma_m=args.gamma_m, teacher_memory_path=args.teacher_memory_path)


if __name__ == "__main__":
    exit_on_input_error(main)
