"""Analyse what a student took over from its teacher: predictions, CKA maps and relation differences, as one JSON file.

    python scripts/analyse.py --model_name_or_path TEACHER --student_model_name_or_path OUT --task_name RTE --data_dir DATA \\
        --do_lower_case --output_file analysis.json

The teacher as its own student gives the values that a perfect student would have.
"""

import fsd.cli.early_signals  # noqa: F401

from fsd.cli.arguments import analysis_parser
from fsd.cli.checks import parse_analysis
from fsd.system.errors import exit_on_input_error


def main():
    args = parse_analysis(analysis_parser(__doc__))

    from fsd.cli.analyse import analyse

    analyse(args)


if __name__ == "__main__":
    exit_on_input_error(main)
