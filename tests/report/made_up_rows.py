"""Rows and analyses that are written by hand, and the tables made of them."""

import csv
import json

from conftest import ROOT

from fsd.records.results import RESULT_COLUMNS
from fsd.report.runs import read_reproduction
from fsd.report.tables import make_tables

PUBLISHED = json.loads((ROOT / "results/published.json").read_text())


def row(method, seed, task="RTE", role="student", **cells):
    """A student's row as it would be at BERT-base."""
    sizes = {"batch_size": 32, "student_layers": 6, "student_hidden_size": 768, "parameters": 66_956_546}
    return {"task": task, "method": method, "role": role, "seed": seed, "run": f"{task}-{method}-{seed}", **sizes, **cells}


def write_reproduction(folder, rows, analyses=(), failed=None, chosen=None):
    """Write rows, contents of analysis files, failures and chosen.toml into a folder as reproduce.py leaves it; returns it."""
    folder.mkdir(exist_ok=True)
    columns = [name for name in RESULT_COLUMNS if any(name in cells for cells in rows)] or RESULT_COLUMNS
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    for at, content in enumerate(analyses):
        (folder / "analysis").mkdir(exist_ok=True)
        (folder / f"analysis/{at}.json").write_text(json.dumps(content))
    if failed is not None:
        (folder / "failed.json").write_text(json.dumps(failed))
    if chosen is not None:
        (folder / "chosen.toml").write_text(chosen)
    return folder


def tables_of(folder, benchmark=None):
    return {table.name: table for table in make_tables(read_reproduction(folder), PUBLISHED, benchmark)}


def cells(table, label, source="ours"):
    """Column → text of one line of a table."""
    line = next(line for line in table.lines if (line.row, line.source) == (label, source))
    return {column: line.values[column].text(line.digits) if column in line.values else "" for column in table.columns}


def analysis(method, seed, diagonal=0.9, difference=0.1, task="RTE", **changes):
    relations = {f"{where}_{metric}": difference for where in ("inter", "intra") for metric in ("euclidean", "cosine")}
    cka = {"split": "test", "batch_size": 32, "map": [[diagonal]], "mean_diagonal": diagonal, "shuffled_mean_diagonal": 0.8,
           "chance_mean_diagonal": 0.75}
    return {"task": task, "method": method, "seed": seed, "batch_size": 32, "teacher_hash": "t", "run": f"{task}-{method}-{seed}",
            "restoration": None, "cka": cka, "layers": None, "relations": relations, "curves": None} | changes
