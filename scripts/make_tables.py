"""Write the paper's Tables 2 to 8 from a reproduction's runs, with the published numbers beside, as Markdown, LaTeX and CSV.

    python scripts/make_tables.py --results REPRO --output_dir REPRO/tables
    python scripts/make_tables.py --results REPRO --output_dir REPRO/tables --benchmark results/benchmark-epyc-2-cores.json

Tables can be made while scripts/reproduce.py still runs: cells without runs stay empty.
"""

import fsd.cli.early_signals  # noqa: F401

from pathlib import Path

from fsd.cli.parser import Parser
from fsd.system.errors import exit_on_input_error
from fsd.system.files import read_json

PUBLISHED = Path(__file__).resolve().parent.parent / "results/published.json"


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", required=True, help="folder that scripts/reproduce.py wrote")
    parser.add_argument("--output_dir", required=True,
        help="folder for table2 … table8, and for settings and own-tasks where there are any: .md, .tex and .csv of each")
    parser.add_argument("--benchmark", help="JSON file of scripts/benchmark.py, for the times in Table 8")
    args = parser.parse_args()

    from fsd.report.analysis_tables import read_benchmark
    from fsd.report.runs import read_reproduction
    from fsd.report.table import write_tables
    from fsd.report.tables import make_tables

    benchmark = read_benchmark(args.benchmark) if args.benchmark else None
    tables = make_tables(read_reproduction(args.results), read_json(PUBLISHED), benchmark)
    for path in write_tables(tables, args.output_dir):
        print(path)


if __name__ == "__main__":
    exit_on_input_error(main)
