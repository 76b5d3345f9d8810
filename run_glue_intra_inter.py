"""Distil a BERT with the intra-feature structure (FSD_I, --internal) or the local inter-feature structure (FSD_L).

    FSD_I: L_KD + beta · L_I        python run_glue_intra_inter.py --internal …
    FSD_L: L_KD + beta · L_L        python run_glue_intra_inter.py …
    KD:    L_KD                     python run_glue_intra_inter.py --beta 0 …
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import intra_inter_parser
from fsd.cli.checks import parse_distillation
from fsd.cli.structure_flags import structure_weights
from fsd.system.errors import exit_on_input_error


def main():
    args = parse_distillation(intra_inter_parser(__doc__))

    from fsd.cli.distill import distill

    distill(args, **structure_weights(args))


if __name__ == "__main__":
    exit_on_input_error(main)
