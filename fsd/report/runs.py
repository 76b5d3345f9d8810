"""What a reproduction has left on disk, as pandas frames: rows of runs, analyses, failures, what chose the settings."""

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pandas

from fsd.glue.tasks import METRIC_NAMES, find_task
from fsd.records.results import read_results
from fsd.system.errors import InputError
from fsd.system.files import read_json

NUMBERS = (*METRIC_NAMES, "seed", "batch_size", "parameters", "student_layers", "student_hidden_size", "train_samples")
CELL = ["task", "method", "role", "batch_size", "seed", "flags", "teacher_hash"]
RUN_COLUMNS = ["run", *CELL, *(name for name in NUMBERS if name not in CELL)]
RELATIONS = ("inter_euclidean", "inter_cosine", "intra_euclidean", "intra_cosine")
ANALYSIS_COLUMNS = ["task", "method", "seed", "batch_size", "teacher_hash", "run", "split", "analysis_batch_size",
                    "mean_diagonal", "shuffled_mean_diagonal", *RELATIONS]
PAPER_BATCH_SIZE = 32


@dataclass(frozen=True)
class Reproduction:
    """All that tables are made of.

    Attributes:
        runs: frame of ``RUN_COLUMNS``, one row a run; metrics are fractions, NaN where a task has no such metric.
        analyses: frame of ``ANALYSIS_COLUMNS``, one row a model that was compared with its teacher.
        failed: cell name, which starts with the task and "/" → the last line of its log.
        selected_on: "held-out" or "dev", the data that chose the hyper-parameters; "" if nothing says it.
    """

    runs: pandas.DataFrame
    analyses: pandas.DataFrame
    failed: dict = field(default_factory=dict)
    selected_on: str = ""


def read_reproduction(folder):
    """The :class:`Reproduction` in ``folder``. Only results.csv must be there.

    Raises:
        InputError: a file is missing, damaged, or another program's; the message names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"--results {folder}: no such folder; name the one that the runs wrote to")
    failed = read_json(folder / "failed.json") if (folder / "failed.json").exists() else {}
    if not isinstance(failed, dict):
        raise InputError(f"{folder / 'failed.json'} does not map cells to messages; move it away")
    runs = read_runs(folder / "results.csv")
    return Reproduction(runs, read_analyses(folder / "analysis"), failed, _selected_on(folder / "chosen.toml"))


def read_runs(path):
    """Frame of the results file's rows. Of rows with the same task, method, seed and settings, the last one counts."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the folder that the runs wrote results.csv to")
    try:
        rows = read_results(path)
    except InputError as error:
        raise InputError(str(error).removeprefix("--results_file ")) from error
    kept = []
    for at, row in enumerate(rows, start=1):
        values = {name: row.get(name, "") for name in RUN_COLUMNS}
        for name in NUMBERS:
            values[name] = _number(values[name], f"{path}: row {at}: {name}")
        kept.append(values | {"task": _task(row["task"], f"{path}: row {at}")})
    return pandas.DataFrame(kept, columns=RUN_COLUMNS).drop_duplicates(CELL, keep="last", ignore_index=True)


def read_analyses(folder):
    """Frame of all analysis files in ``folder``; empty if there is no such folder."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        try:
            cka, relations = content.get("cka") or {}, content.get("relations") or {}
            row = {name: content[name] for name in ("task", "method", "seed")}
            row |= {name: content.get(name) or "" for name in ("teacher_hash", "run")}
            row |= {"batch_size": content.get("batch_size"), "split": cka.get("split", ""),
                    "analysis_batch_size": cka.get("batch_size")}
            row |= {name: cka.get(name) for name in ("mean_diagonal", "shuffled_mean_diagonal")}
            row |= {name: relations.get(name) for name in RELATIONS}
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not what scripts/analyse.py writes; move it away") from error
        for name in ("seed", "batch_size", "analysis_batch_size", "mean_diagonal", "shuffled_mean_diagonal", *RELATIONS):
            row[name] = _number("" if row[name] is None else row[name], f"{path}: {name}")
        rows.append(row | {"task": _task(row["task"], path)})
    return pandas.DataFrame(rows, columns=ANALYSIS_COLUMNS)


def main_batch_sizes(runs):
    """Task → the batch size of its main experiment: 32 where a student has it, else the students' most common size."""
    sizes = runs[runs["role"] == "student"].dropna(subset=["batch_size"]).groupby("task")["batch_size"]
    return {task: PAPER_BATCH_SIZE if (of_task == PAPER_BATCH_SIZE).any() else of_task.mode().iloc[-1]
            for task, of_task in sizes}


def at_batch_sizes(frame, sizes):
    """The rows at their task's batch size in ``sizes``, and those where one of the two is not known."""
    wanted = frame["task"].map(sizes)
    return frame[frame["batch_size"].isna() | wanted.isna() | (frame["batch_size"] == wanted)]


def _selected_on(path):
    if not path.exists():
        return ""
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("selected_on", ""))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable as TOML: {error}; restore it, or move it away") from error


def _task(name, where):
    try:
        return find_task(str(name)).name
    except InputError as error:
        raise InputError(f"{where}: {name!r} is not a GLUE task; remove the row or the file") from error


def _number(text, where):
    """The finite number in a cell, NaN for an empty one."""
    try:
        value = math.nan if text == "" else float(text)
    except (TypeError, ValueError):
        value = math.inf
    if math.isinf(value) or math.isnan(value) and text != "":
        raise InputError(f"{where}: {text!r} is not a finite number; remove the row or the file")
    return value
