"""What a reproduction has found so far: the final runs' scores, and the small analysis file of each run.

Imports nothing heavy, so that argument errors appear at once.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fsd.glue.metrics import main_metric
from fsd.glue.tasks import find_task
from fsd.records.results import read_results
from fsd.system.errors import InputError
from fsd.system.files import read_json

METHODS = ("teacher", "fine-tuning", "KD", "PKD", "MiniLM", "RKD", "FSD_I", "FSD_L", "FSD_G", "FSD_IL", "FSD_ILG")
# The paper's order. Its Table 2 has the five small tasks, its Table 3 the others.
SMALL_TASKS = ("WNLI", "RTE", "STS-B", "CoLA", "MRPC")
LARGE_TASKS = ("SST-2", "QNLI", "QQP", "MNLI")
PAPER_BATCH_SIZE = "32"
RATES = ("precision", "recall", "f1")
RELATIONS = ("inter_euclidean", "inter_cosine", "intra_euclidean", "intra_cosine")


@dataclass
class Findings:
    """Rows of the results file and contents of analysis files, one of each per run.

    Attributes:
        rows: rows of the results file, of one batch size per task; every row has its task's main metric in ``score``, a
            fraction, and ``method`` "teacher" if it is a teacher's.
        analyses: contents of the analysis files, of the same batch sizes.
        selected_on: the data that chose the hyper-parameters: "held-out", "dev", or None if nothing says it.
        failed: names of the cells that failed.
    """

    rows: list = field(default_factory=list)
    analyses: list = field(default_factory=list)
    selected_on: str | None = None
    failed: list = field(default_factory=list)

    def tasks(self, part=None):
        """Tasks in the paper's order whose analyses have ``part``; without a part, those with a row."""
        among = self.rows if part is None else [found for found in self.analyses if found.get(part)]
        found = {item["task"] for item in among}
        return [task for task in SMALL_TASKS + LARGE_TASKS if task in found]

    def parts(self, part, task, method):
        """The ``part`` of each run's analysis, of one task and method."""
        chosen = (found for found in self.analyses if (found["task"], found["method"]) == (task, method))
        return [found[part] for found in chosen if found.get(part)]

    def scores(self, task, method):
        """The main dev metric of each run, as fractions."""
        return [row["score"] for row in self.rows if (row["task"], row["method"]) == (task, method)]


def read_findings(folder):
    """The :class:`Findings` in a reproduction's folder. What is not there yet is left out.

    Raises:
        InputError: the folder has neither rows nor analyses, or one of its files is damaged; the message names it.
    """
    folder = Path(folder)
    rows = [row_with_score(row, folder / "results.csv") for row in read_results(folder / "results.csv")]
    order = {row["run"]: place for place, row in enumerate(rows)}
    analyses = [read_analysis(path) for path in sorted((folder / "analysis").glob("*.json"))]
    analyses.sort(key=lambda found: order.get(found["run"], -1))
    if not rows and not analyses:
        raise InputError(f"--results {folder}: neither results.csv nor analysis/*.json is in it; "
                         "name the --output_dir of reproduce.py")
    failed = read_json(folder / "failed.json") if (folder / "failed.json").exists() else {}
    if not isinstance(failed, dict):
        raise InputError(f"{folder / 'failed.json'}: it is no object of cells; remove it")
    return Findings(last_runs(rows), last_runs(analyses), selected_on(folder / "chosen.toml"), list(failed))


def row_with_score(row, path):
    """A row of the results file with its score, and with "teacher" as the method of a teacher.

    Raises:
        InputError: unknown task or method, or a score that is no number.
    """
    task, what = find_task(row["task"]), f"{path}: run {row['run']!r}"
    method = "teacher" if row["role"] == "teacher" else row["method"]
    if method not in METHODS:
        raise InputError(f"{what}: method {method!r} is unknown; correct the row, or remove it")
    name = main_metric(task)
    try:
        score = float(row[name])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"{what}: {name} is {row[name]!r}, not a number; correct the row, or remove it")
    return row | {"method": method, "score": score}


def last_runs(items):
    """The last of each task, method and seed, of one batch size per task: the paper's, or else that of most runs.

    Other batch sizes belong to the study of stability (Table 5) and do not mix with these.
    """
    counts = Counter((item["task"], str(item["batch_size"])) for item in items if item["method"] != "teacher")
    ranked = sorted(counts, key=lambda key: (key[1] == PAPER_BATCH_SIZE, counts[key], key[1].zfill(9)))
    usual = dict(ranked)
    last = {}
    for item in items:
        if item["method"] == "teacher" or str(item["batch_size"]) == usual[item["task"]]:
            last[item["task"], item["method"], str(item["seed"])] = item
    return list(last.values())


def selected_on(path):
    """The data that chose the hyper-parameters, from ``chosen.toml``; None if there is no such file or key."""
    import tomllib

    if not path.exists():
        return None
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("selected_on")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as TOML: {error}; restore it") from error


def read_analysis(path):
    """The checked content of an analysis file. A part that is missing there becomes None.

    Raises:
        InputError: it is no JSON, or a part that figures need has another shape; the message names file and part.
    """
    value = read_json(path)

    def need(part, good):
        if not good:
            raise InputError(f"{path}: its {part} is missing or damaged; remove the file, and run reproduce.py again")

    need("content", isinstance(value, dict))
    found = {"restoration": None, "cka": None, "layers": None, "curves": None, "run": None, "batch_size": ""} | value
    need("task", found.get("task") in SMALL_TASKS + LARGE_TASKS)
    need("method", found.get("method") in METHODS)
    need("seed", isinstance(found.get("seed"), int | str | None))
    found.setdefault("seed", "")
    need("batch_size", isinstance(found["batch_size"], int | str | None))
    for part in ("restoration", "cka", "layers", "curves"):
        need(part, found[part] is None or isinstance(found[part], dict))
    if restoration := found["restoration"]:
        need("restoration", all(is_number(restoration.get(rate)) for rate in RATES))
    if cka := found["cka"]:
        need("cka", is_matrix(cka.get("map"), square=True))
        need("cka", all(is_number(cka.get(name)) for name in ("mean_diagonal", "shuffled_mean_diagonal")))
    if layers := found["layers"]:
        need("layers", is_matrix(layers.get("map")))
    if curves := found["curves"]:
        need("curves", all(is_matrix([curves.get(name)]) for name in ("step", *RELATIONS)))
        need("curves", len({len(curves[name]) for name in ("step", *RELATIONS)}) == 1)
    return found


def is_number(value):
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_matrix(value, square=False):
    """Whether a value of a JSON file is a matrix of finite numbers with at least one of them."""
    rows = value if isinstance(value, list) and value else [None]
    if not all(isinstance(row, list) and row and all(map(is_number, row)) for row in rows):
        return False
    return len({len(row) for row in rows}) == 1 and (not square or len(rows) == len(rows[0]))
