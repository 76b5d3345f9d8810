"""Draw the paper's figures from a reproduction, and one page with all tables and figures.

    python scripts/make_figures.py --results REPRO --output_dir REPRO/figures

Writes figure3 to figure8, scores, layers, and settings where a method has several, as PNG and PDF, the same pictures for
TensorBoard, and report.html, which needs no other file. Reads REPRO/results.csv and REPRO/analysis; what they lack is left
out. Make the tables first: the page takes the files of make_tables.py with it. Figures 4 and 6 show the five small tasks of
the paper's Table 2, Figures 7 and 8 the four large ones of its Table 3.
"""

import fsd.cli.early_signals  # noqa: F401

from pathlib import Path

from fsd.cli.parser import Parser
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import check_folder


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results", required=True, help="folder that reproduce.py wrote")
    parser.add_argument("--output_dir", required=True, help="folder for the figures and the page")
    parser.add_argument("--tables", default=None, help="folder of the tables (default: tables in the folder of the results)")
    parser.add_argument("--run_file", default=None, help="TensorBoard folder (default: runs in the output folder)")
    args = parser.parse_args()
    output_dir = Path(args.output_dir)
    if args.tables and not Path(args.tables).is_dir():
        raise InputError(f"--tables {args.tables}: no such folder; run make_tables.py first, or leave the flag out")
    run_file = args.run_file or output_dir / "runs"
    check_folder(output_dir, f"--output_dir {output_dir}")
    check_folder(run_file, f"--run_file {run_file}")

    from fsd.report.gallery import draw_all, show_in_tensorboard
    from fsd.report.page import read_tables, write_report
    from fsd.report.runs import read_reproduction

    reproduction = read_reproduction(args.results)
    tables = read_tables(Path(args.tables or Path(args.results) / "tables"))
    drawings, left_out = draw_all(reproduction, output_dir)
    for line in left_out:
        print(line)
    show_in_tensorboard(drawings, output_dir, run_file, int(reproduction.main["score"].count()))
    write_report(output_dir / "report.html", reproduction, drawings, left_out, tables)
    print(f"{len(drawings)} figures and report.html are in {output_dir}")


if __name__ == "__main__":
    exit_on_input_error(main)
