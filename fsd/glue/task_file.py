"""A task of one's own, from a JSON file that describes it. Imports only light modules."""

import re

from fsd.glue.tasks import TASKS, Task, plain_label, plain_name
from fsd.system.errors import InputError
from fsd.system.files import read_json

CLASS_METRICS, SCORE_METRICS = ("acc", "f1", "acc_and_f1", "mcc"), ("pearson", "spearmanr", "corr")
KEYS = ("name", "files", "text_columns", "label_column", "labels", "file_labels", "range", "metrics", "index_column")
FILES = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")  # it becomes the name of folders, files and runs
FILE_NAME = re.compile(r"[^/\\]{1,100}\.(tsv|csv|jsonl)")
LARGEST_SCORE = 1e6  # float32 and the squared error are good for that


def read_task_file(path):
    """The :class:`fsd.glue.tasks.Task` that a JSON file describes; docs/own-data.md explains its keys.

    Raises:
        InputError: the file cannot be read, has an unknown key, lacks one, or has a value that does not fit; the message
            names the file and the key.
    """
    try:
        content = read_json(path)
        need(isinstance(content, dict), "not a JSON object; docs/own-data.md has an example")
        for key in content:
            need(key in KEYS, f"unknown key {key!r}; the keys are {', '.join(KEYS)}")
        for key in ("name", "text_columns", "label_column", "metrics"):
            need(key in content, f"it lacks {key!r}")
        need(("labels" in content) != ("range" in content), "it needs either labels, or range for a score")
        name, files, index = content["name"], content.get("files", FILES), content.get("index_column")
        need(is_task_name(name), "name must be letters, digits, '_', '.' and '-', 60 at most")
        need(plain_name(name) not in [plain_name(task.name) for task in TASKS], f"name {name!r} is a GLUE task; choose another")
        need(isinstance(files, dict) and {"train", "dev"} <= set(files) <= set(FILES), "files must name train, dev, perhaps test")
        need(_is_list(list(files.values())), "files must be different names")
        for file in files.values():
            need(FILE_NAME.fullmatch(file), f"file {file!r} must have no folder, and end in .tsv, .csv or .jsonl")
        need(index is None or _is_text(index), "index_column must be a text")
        texts, label_column = content["text_columns"], content["label_column"]
        need(_is_list(texts) and len(texts) in (1, 2), "text_columns must be a list of one or two different names")
        need(_is_text(label_column), "label_column must be a text")
        need(label_column not in texts, f"label_column {label_column!r} is among text_columns, which would give the label away")
        score_range, labels, file_labels = _answers(content)
        metrics = _metrics(content, labels)
    except InputError as error:
        raise InputError(f"--task_file {path}: {str(error).removeprefix(f'{path}: ')}") from error
    return Task(
        name, labels, file_labels, tuple(texts), label_column, metrics, score_range=score_range, index_column=index,
        files={split: files[split] for split in FILES if split in files},
    )


def is_task_name(name):
    """Whether a value can be the name of a task of one's own."""
    return isinstance(name, str) and bool(NAME.fullmatch(name))


def need(good, reason):
    """Raise an ``InputError`` with the reason unless it is ``good``."""
    if not good:
        raise InputError(reason)


def _answers(content):
    """(score range or None, labels, labels in the files) of a checked object."""
    if "range" in content:
        score_range = content["range"]
        need(_is_range(score_range), f"range must be [lowest, highest], each within ±{LARGEST_SCORE:g}")
        need("file_labels" not in content, "file_labels are for a task with labels")
        return tuple(map(float, score_range)), (), ()
    labels, file_labels = content["labels"], content.get("file_labels", content["labels"])
    for key, names in (("labels", labels), ("file_labels", file_labels)):
        need(_is_list(names) and len({plain_label(label) for label in names}) == len(names) >= 2,
             f"{key} must be a list of two or more texts that differ in more than case, '-', '_' and ' '")
    need(len(labels) == len(file_labels), "file_labels must be as many as labels")
    return None, tuple(labels), tuple(file_labels)


def _metrics(content, labels):
    metrics, known = content["metrics"], CLASS_METRICS if labels else SCORE_METRICS
    need(_is_list(metrics) and metrics, "metrics must be a list of different names, the main one first")
    for metric in metrics:
        need(metric in known, f"unknown metric {metric!r}; with {'labels' if labels else 'range'} there are {', '.join(known)}")
    need(len(labels) == 2 or not {"f1", "acc_and_f1"} & set(metrics), "f1 and acc_and_f1 need two labels; the second counts")
    return tuple(metrics)


def _is_text(value):
    return isinstance(value, str) and bool(value) and value.isprintable()


def _is_list(value):
    """Whether a JSON value is a list of different texts."""
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_range(value):
    numbers = value if isinstance(value, list) and len(value) == 2 else [None]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        return False
    return -LARGEST_SCORE <= numbers[0] < numbers[1] <= LARGEST_SCORE
