"""What a reproduction has left on disk, as pandas frames: rows of runs, analyses, failures, what chose the settings."""

import math
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas

from fsd.glue.metrics import check_score, main_metric
from fsd.glue.task_file import is_task_name
from fsd.glue.tasks import METRIC_NAMES, TASKS, find_task, plain_name
from fsd.method.relations import RELATIONS
from fsd.records.results import read_results, row_flags
from fsd.report.names import LARGE_TASKS, SMALL_TASKS
from fsd.report.variants import settings_text, with_main_settings
from fsd.system.errors import InputError
from fsd.system.files import read_json

NUMBERS = (*METRIC_NAMES, "seed", "batch_size", "parameters", "student_layers", "student_hidden_size", "train_samples")
CELL = ["task", "method", "batch_size", "seed", "flags", "teacher_hash"]
RUN_COLUMNS = ["run", "copied_from", *CELL, *(name for name in NUMBERS if name not in CELL), "score"]
ANALYSIS_PARTS = ("restoration", "cka", "layers", "relations", "curves")
DIAGONALS = ("mean_diagonal", "shuffled_mean_diagonal")
CHANCE = "chance_mean_diagonal"  # analyses of the first version lack it
RATES = ("precision", "recall", "f1")
ANALYSIS_COLUMNS = ["run", *CELL, *ANALYSIS_PARTS, "split", "analysis_batch_size", *DIAGONALS, CHANCE, *RELATIONS]
PAPER_BATCH_SIZE = 32
LARGEST = 1e300  # of the numbers in a JSON file, whose whole ones may be too large for a float


@dataclass(frozen=True)
class Reproduction:
    """All that tables and figures are made of.

    Attributes:
        runs: frame of ``RUN_COLUMNS``, one row a run on one of the nine tasks; a teacher's method is "teacher". Metrics are
            fractions, NaN where a task has no such metric; ``score`` is the task's main one, and ``flags`` a
            :func:`fsd.report.variants.settings_text`.
        analyses: frame of ``ANALYSIS_COLUMNS``, one row a model of the main experiments that was compared with its teacher.
            ``ANALYSIS_PARTS`` are dictionaries, empty where the analysis has no such part.
        failed: cell name, which starts with the task and "/" → the last line of its log.
        selected_on: "held-out" or "dev", the data that chose the hyper-parameters; "" if nothing says it.
        own: frame as ``runs``, of the runs on tasks of one's own.
    """

    runs: pandas.DataFrame
    analyses: pandas.DataFrame
    failed: dict = field(default_factory=dict)
    selected_on: str = ""
    own: pandas.DataFrame = field(default_factory=lambda: pandas.DataFrame(columns=RUN_COLUMNS))

    @cached_property
    def main(self):
        """The runs of each task's main experiment, and the teachers. Of several settings of a method, one counts."""
        return with_main_settings(self._at_main_batch_sizes)

    @cached_property
    def of_all_settings(self):
        """The students' runs at the batch size of each task's main experiment, with whatever settings."""
        return self._at_main_batch_sizes[self._at_main_batch_sizes["method"] != "teacher"]

    @cached_property
    def _at_main_batch_sizes(self):
        return at_batch_sizes(self.runs, main_batch_sizes(self.runs))

    @cached_property
    def main_analyses(self):
        """The analyses without those of runs that ``main`` leaves out."""
        left_out = set(self.of_all_settings["run"]) - set(self.main["run"])
        return self.analyses[~self.analyses["run"].isin(left_out)]

    @property
    def students(self):
        """The students' runs of each task's main experiment."""
        return self.main[self.main["method"] != "teacher"]

    def tasks(self, part=None):
        """Tasks in the paper's order whose analyses have ``part``; without a part, those with a score."""
        analyses = self.main_analyses
        found = self.main.dropna(subset=["score"]) if part is None else analyses[analyses[part].astype(bool)]
        return [task for task in SMALL_TASKS + LARGE_TASKS if task in set(found["task"])]

    def parts(self, part, task, method):
        """The ``part`` of each run's analysis, of one task and method."""
        return [found for found in of(self.main_analyses, task, method)[part] if found]

    def scores(self, task, method):
        """The main dev metric of each run, as fractions."""
        return of(self.main, task, method)["score"].dropna().tolist()


def read_reproduction(folder):
    """The :class:`Reproduction` in ``folder``. What is not there yet is left out.

    Raises:
        InputError: there are neither rows nor analyses, or a file is damaged or another program's; the message names it.
    """
    folder = Path(folder)
    try:
        if not folder.is_dir():
            raise InputError("no such folder; name the --output_dir of reproduce.py")
        paths = sorted((folder / "analysis").glob("[!.]*.json"))
        if not (folder / "results.csv").is_file() and not paths:
            raise InputError("neither results.csv nor analysis/*.json is in it; name the --output_dir of reproduce.py")
        failed = read_json(folder / "failed.json") if (folder / "failed.json").exists() else {}
        if not isinstance(failed, dict):
            raise InputError(f"{folder / 'failed.json'} does not map cells to messages; move it away")
        runs = read_runs(folder / "results.csv")
        analyses = pandas.DataFrame(map(read_analysis, paths), columns=ANALYSIS_COLUMNS)
        selected_on = _selected_on(folder / "chosen.toml")
    except InputError as error:
        raise InputError(f"--results {folder}: {str(error).removeprefix('--results_file ')}") from error
    own, runs = runs[~is_of_glue(runs)], runs[is_of_glue(runs)]
    analyses = analyses[is_of_glue(analyses)]
    flags = dict(zip(runs["run"], runs["flags"], strict=True))
    analyses["flags"] = [flags.get(run, "") for run in analyses["run"]]
    analyses = at_batch_sizes(analyses, main_batch_sizes(runs)).drop_duplicates(CELL, keep="last", ignore_index=True)
    return Reproduction(runs, analyses, failed, selected_on, at_batch_sizes(own, main_batch_sizes(own)))


def read_runs(path):
    """Frame of the results file's rows. Of rows with the same task, method, seed and settings, the last one counts."""
    kept = []
    for at, row in enumerate(read_results(path), start=1):
        values = {name: row.get(name, "") for name in RUN_COLUMNS}
        if row["flags"] and not row_flags(row):
            raise InputError(f"{path}: row {at}: flags is no JSON object; restore the cell, or remove the row")
        values |= {"task": _task(row["task"], f"{path}: row {at}"), "flags": settings_text(row)}
        if row["role"] not in ("student", "teacher", ""):  # rows of the first version have no role
            raise InputError(f"{path}: row {at}: role is {row['role']!r}; write student or teacher, or remove the row")
        for name in NUMBERS:
            values[name] = _number(values[name], f"{path}: row {at}: {name}")
            if name in METRIC_NAMES:
                check_score(values[name], f"{path}: row {at}: {name}")
        values["score"] = values[_main_metric(row, values["task"], f"{path}: row {at}")]
        kept.append(values | ({"method": "teacher"} if row["role"] == "teacher" else {}))
    return pandas.DataFrame(kept, columns=RUN_COLUMNS).drop_duplicates(CELL, keep="last", ignore_index=True)


def read_analysis(path):
    """The checked content of an analysis file: a dictionary of ``ANALYSIS_COLUMNS`` but the flags.

    Raises:
        InputError: it is no JSON, or a part has another shape; the message names file and part.
    """
    content = read_json(path)

    def need(part, good):
        if not good:
            raise InputError(f"{path}: its {part} is missing or damaged; move the file away, and run reproduce.py again")

    need("content", isinstance(content, dict))
    need("method", isinstance(content.get("method"), str))
    parts = {part: content.get(part) or {} for part in ANALYSIS_PARTS}
    for part, value in parts.items():
        need(part, isinstance(value, dict))
    restoration, cka, layers, relations, curves = parts.values()
    need("restoration", not restoration or all(is_number(restoration.get(rate)) for rate in RATES))
    need("cka", not cka or is_matrix(cka.get("map"), square=True) and all(is_number(cka.get(name)) for name in DIAGONALS))
    need("cka", is_number(cka.get(CHANCE, 0)) and isinstance(cka.get("split", ""), str))
    need("layers", not layers or is_matrix(layers.get("map")) and is_matrix(layers.get("chance_map", [[0]])))
    need("relations", not relations or all(is_number(relations.get(name)) for name in RELATIONS))
    need("curves", not curves or is_matrix([curves.get(name) for name in ("step", *RELATIONS)]))
    row = {"task": _task(content.get("task"), path), "method": content["method"], "split": cka.get("split", ""), **parts}
    row |= {name: content.get(name) or "" for name in ("run", "teacher_hash")}
    need("run or teacher_hash", all(isinstance(row[name], str) for name in ("run", "teacher_hash")))
    row |= {name: cka.get(name, math.nan) for name in (*DIAGONALS, CHANCE)}
    row |= {name: relations.get(name, math.nan) for name in RELATIONS}
    numbers = {"seed": content.get("seed"), "batch_size": content.get("batch_size"), "analysis_batch_size": cka.get("batch_size")}
    return row | {name: _number("" if value is None else value, f"{path}: {name}") for name, value in numbers.items()}


def main_batch_sizes(runs):
    """Task → the batch size of its main experiment: 32 where a student has it, else the students' most common size."""
    sizes = runs[runs["method"] != "teacher"].dropna(subset=["batch_size"]).groupby("task")["batch_size"]
    return {task: PAPER_BATCH_SIZE if (of_task == PAPER_BATCH_SIZE).any() else of_task.mode().iloc[-1]
            for task, of_task in sizes}


def at_batch_sizes(frame, sizes):
    """The rows at their task's batch size in ``sizes``, those where one of the two is not known, and those of teachers."""
    wanted = frame["task"].map(sizes)
    chosen = frame["batch_size"].isna() | wanted.isna() | (frame["batch_size"] == wanted)
    return frame[chosen | (frame["method"] == "teacher")]


def is_of_glue(frame):
    """Which rows are on one of the nine tasks."""
    return frame["task"].isin(SMALL_TASKS + LARGE_TASKS)


def of(frame, task, method):
    """The rows of one task and method."""
    return frame[(frame["task"] == task) & (frame["method"] == method)]


def is_number(value):
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def is_matrix(value, square=False):
    """Whether a value of a JSON file is a matrix of finite numbers with at least one of them."""
    rows = value if isinstance(value, list) and value else [None]
    if not all(isinstance(row, list) and row and all(map(is_number, row)) for row in rows):
        return False
    return len({len(row) for row in rows}) == 1 and (not square or len(rows) == len(rows[0]))


def _selected_on(path):
    if not path.exists():
        return ""
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("selected_on", ""))
    except (OSError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is not readable as TOML: {error}; restore it, or move it away") from error


def _task(name, where):
    """The name of one of the nine as GLUE writes it, or of a task of one's own."""
    for task in TASKS:
        if plain_name(task.name) == plain_name(str(name)):
            return task.name
    if not is_task_name(name):
        raise InputError(f"{where}: {name!r} is not the name of a task; remove the row or the file")
    return name


def _main_metric(row, task, where):
    """The column of a row's main score. Rows of older versions do not name it, and are all of the nine tasks."""
    if row["main_metric"] in METRIC_NAMES:
        return row["main_metric"]
    try:
        return main_metric(find_task(task))
    except InputError as error:
        raise InputError(f"{where}: the task {task!r} is not of GLUE, and main_metric names no metric; remove the row") from error


def _number(text, where):
    """The finite number in a cell, NaN for an empty one."""
    try:
        value = math.nan if text == "" else float(text)
    except (OverflowError, TypeError, ValueError):
        value = math.inf
    if math.isinf(value) or math.isnan(value) and text != "":
        raise InputError(f"{where}: {text!r} is not a finite number; remove the row or the file")
    return value
