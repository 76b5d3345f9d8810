"""Distil a BERT with the intra-feature structure (FSD_I, --internal) or the local inter-feature structure (FSD_L).

    FSD_I: L_KD + beta · L_I        python run_glue_intra_inter.py --internal …
    FSD_L: L_KD + beta · L_L        python run_glue_intra_inter.py …
    KD:    L_KD                     python run_glue_intra_inter.py --beta 0 …
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import add_distillation_arguments, add_objective_arguments
from fsd.cli.checks import parse_distillation
from fsd.cli.parser import Parser
from fsd.system.errors import exit_on_input_error


def main():
    parser = Parser(__doc__)
    group = add_objective_arguments(parser)
    group.add_argument("--internal", action="store_true", help="compare within each example (FSD_I), not between examples")
    add_distillation_arguments(parser)
    args = parse_distillation(parser)

    from fsd.cli.distill import distill

    distill(args, gamma_i=float(args.internal), gamma_l=float(not args.internal))


if __name__ == "__main__":
    exit_on_input_error(main)
