"""Distil a BERT with all three structures (FSD_ILG), or with any of them.

    FSD_ILG: L_KD + beta · (gamma_i · L_I + gamma_l · L_L + gamma_g · L_G)
                                    python run_glue_all.py --teacher_memory_path MEM …
    FSD_IL:  the same without L_G   python run_glue_all.py --gamma_g 0 …
    KD:      L_KD                   python run_glue_all.py --beta 0 …

With gamma_g above 0, first build the teacher memory (MEM) with train_memory.py.
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import add_distillation_arguments, add_memory_arguments, add_objective_arguments
from fsd.cli.checks import parse_distillation
from fsd.cli.parser import Parser, number
from fsd.system.errors import exit_on_input_error


def main():
    parser = Parser(__doc__)
    group = add_objective_arguments(parser)
    group.add_argument("--gamma_i", type=number(float, 0), default=0.125, help="weight of the intra-feature structure")
    group.add_argument("--gamma_l", type=number(float, 0), default=0.125, help="weight of the local inter-feature structure")
    group.add_argument("--gamma_g", type=number(float, 0), default=0.5, help="weight of the global inter-feature structure")
    add_memory_arguments(group)
    add_distillation_arguments(parser)
    args = parse_distillation(parser)

    from fsd.cli.distill import distill

    distill(args, args.gamma_i, args.gamma_l, args.gamma_g, args.gamma_m, args.teacher_memory_path)


if __name__ == "__main__":
    exit_on_input_error(main)
