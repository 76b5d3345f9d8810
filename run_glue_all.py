"""Distil a BERT with all three structures (FSD_ILG), or with any of them.

    FSD_ILG: L_KD + beta · (gamma_i · L_I + gamma_l · L_L + gamma_g · L_G)
                                    python run_glue_all.py --teacher_memory_path MEM …
    FSD_IL:  the same without L_G   python run_glue_all.py --gamma_g 0 …
    KD:      L_KD                   python run_glue_all.py --beta 0 …

With gamma_g above 0, first build the teacher memory (MEM) with train_memory.py.
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import all_parser
from fsd.cli.checks import parse_distillation
from fsd.cli.structure_flags import structure_weights
from fsd.system.errors import exit_on_input_error


def main():
    args = parse_distillation(all_parser(__doc__))

    from fsd.cli.distill import distill

    distill(args, **structure_weights(args), gamma_m=args.gamma_m)


if __name__ == "__main__":
    exit_on_input_error(main)
