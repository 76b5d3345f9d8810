"""Tables of rows, on the screen and in the file of a machine."""

from pathlib import Path

from fsd.system.errors import InputError
from fsd.system.files import read_json

SAME = ("device", "python", "torch", "transformers")  # what all rows of a file have in common
COLUMNS = {
    "size": "size", "method": "method", "options": "options", "ms": "ms a step", "examples_per_second": "examples/s",
    "peak_mb": "peak MB", "ratio": "ratio (quartiles)", "beside": "beside", "ratio_to_kd": "to KD with the same options",
    "ratio_to_plain": "to itself without options", "ratio_to_grouped": "to --group_by_length", "ratio_to_peer": "to TextBrewer",
    "share_of_ceiling": "of ceiling",
}


def print_rows(rows, columns=COLUMNS):
    """Print rows as one Markdown table, without the columns that none of them has."""
    used = [name for name in columns if any(row.get(name) not in (None, "") for row in rows)]
    lines = [[COLUMNS[name] for name in used], ["---"] * len(used), *([_cell(row, name) for name in used] for row in rows)]
    for line in lines:
        print(f"| {' | '.join(line)} |", flush=True)


def _cell(row, name):
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value or ""
    if name == "ratio":
        return f"{value:.3f} ({row['ratio_quartiles'][0]:.3f}–{row['ratio_quartiles'][1]:.3f})"
    if name == "share_of_ceiling":
        return f"{value:.0%}"
    if name.startswith("ratio"):
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 1000 or name == "peak_mb" else f"{value:.4g}"


def earlier_tables(path, figures):
    """{name: rows} of the file ``path``, to which the new figures are added; empty without the file.

    Raises:
        InputError: the file is of another machine or of other versions than ``figures``.
    """
    if not Path(path).exists():
        return {}
    earlier = read_json(path)
    for name in SAME:
        if not isinstance(earlier, dict) or earlier.get(name) != figures[name] or not isinstance(earlier.get("tables"), dict):
            raise InputError(f"--output {path} is no benchmark of this machine with {name} {figures[name]}; name another file")
    tables = earlier["tables"].values()
    if not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in tables):
        raise InputError(f"--output {path}: its tables are damaged; move it away, or name another file")
    return earlier["tables"]


def merged(earlier, rows, names):
    """The new rows, after the earlier ones that differ from all of them in the cells of these names."""
    new = [[row.get(name) for name in names] for row in rows]
    return [row for row in earlier if [row.get(name) for name in names] not in new] + rows


def show(path):
    """Print the ratios of a machine's file as one Markdown table.

    Raises:
        InputError: the file cannot be read, or is no file of the benchmark.
    """
    content = read_json(path)
    try:
        rows = [row for name, rows in content["tables"].items() for row in rows
                if "ratio" in row and not (name == "growth" and row["method"] == row["beside"])]
        if not rows:
            raise ValueError("no row has a ratio")
        print(f"{content['device']}, torch {content['torch']}, transformers {content['transformers']}, commits "
              f"{', '.join(sorted({row['commit'] for row in rows}))}\n")
        print_rows(rows)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"--show {path}: no file of scripts/benchmark.py --output; name one") from error
