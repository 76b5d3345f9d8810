"""Finding and reading a task's files. Imports only light modules."""

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

from fsd.glue.rows import read_rows
from fsd.glue.tasks import Task, plain_name
from fsd.system.errors import InputError

logger = logging.getLogger(__name__)

SHORT_ROW_TASK = "QQP"  # line breaks inside questions split some rows of its official train and dev files
# Usual places of the diagnostic set, relative to MNLI's folder.
AX_PLACES = ("../AX/AX.tsv", "../diagnostic/diagnostic.tsv", "../AX.tsv", "AX.tsv", "diagnostic.tsv")


@dataclass
class Split:
    """The content of one file. Each list has one entry per example; ``labels`` are class ids or scores.

    ``labels`` is None for test splits. ``index`` (what names the rows in the predictions, as text) is None for all other splits.
    ``texts_b`` is None for tasks on single sentences.
    """

    task: Task
    name: str
    path: Path
    texts_a: list
    texts_b: list | None
    labels: list | None
    index: list | None


def find_task_folder(task, data_dir):
    """The folder of ``task``'s files: ``data_dir`` itself, or the task's folder in it. InputError if there is neither."""
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise InputError(f"--data_dir {data_dir} is not a folder; give {task.name}'s folder or the folder above it")
    if (data_dir / task.name).is_dir():
        return data_dir / task.name
    for child in sorted(data_dir.iterdir()):
        if child.is_dir() and plain_name(child.name) == plain_name(task.name):
            return child
    if any((data_dir / name).is_file() for name in task.files.values()):
        return data_dir
    raise InputError(f"--data_dir {data_dir} holds neither a folder {task.name} nor {task.files['train']}; "
                     f"give {task.name}'s folder or the folder above it")


def split_path(task, data_dir, split):
    """The path of the file of ``split``, which may not exist. InputError for a split that the task does not have."""
    if split not in task.files:
        raise InputError(f"{task.name} has no split {split!r}; it has {', '.join(task.files)}")
    folder = find_task_folder(task, data_dir)
    if split != "ax":
        return folder / task.files[split]
    places = [Path(os.path.abspath(folder / place)) for place in AX_PLACES]
    return next((place for place in places if place.is_file()), places[0])


def find_split(task, data_dir, split):
    """As :func:`split_path`; InputError if the file does not exist."""
    path = split_path(task, data_dir, split)
    if not path.is_file():
        raise InputError(f"{path}: no such file; is --data_dir {_layout(task)}?")
    return path


def _layout(task):
    return "in the official GLUE layout" if task.is_official else "the folder of the files that the task file names"


def has_split(task, data_dir, split):
    """Whether the file of ``split`` exists (test files and AX are needed only for predictions)."""
    return split in task.files and split_path(task, data_dir, split).is_file()


def read_split(task, data_dir, split):
    """Find and read the file of ``split``; see :func:`read_file`."""
    return read_file(task, split, find_split(task, data_dir, split))


def read_file(task, split, path):
    """Read the file ``path`` of ``split`` into a :class:`Split`; :mod:`fsd.glue.rows` tells its format.

    Columns are found by name. Short rows in QQP's train and dev are skipped with one warning.

    Raises:
        InputError, with file and line: the file or a column is missing, the file is empty, a row has another number of
            fields than the header, a label is unknown, or a score is outside the task's range.
    """
    labelled = split not in task.test_splits
    extra_column = task.label_column if labelled else "index" if split == "ax" else task.index_column
    wanted = [*task.text_columns, *([extra_column] if extra_column else [])]
    columns, rows = read_rows(path, wanted, task.bare_columns if labelled else ())
    places = [_column(path, columns, name) for name in wanted]
    texts, extra, short = [[] for _ in task.text_columns], [], 0
    for number, fields in rows:
        if len(fields) != len(columns):
            if task.name == SHORT_ROW_TASK and labelled and len(fields) < len(columns):
                short += 1
                continue
            kind = "" if path.suffix == ".csv" else "tab-separated "
            raise InputError(f"{path}:{number}: {len(fields)} {kind}fields instead of {len(columns)}; restore the file")
        values = [fields[at] for at in places]
        for column, value in zip(texts, values, strict=False):
            column.append(value)
        if labelled:
            extra.append(_parse_label(task, values[-1], path, number))
        else:
            extra.append(_index(values[-1], path, number) if extra_column else str(len(extra)))
    if short:
        logger.warning("%s: skipped %d short rows; the official file has a few", path, short)
    if not extra:
        first_line = 2 if path.suffix != ".jsonl" and not (labelled and task.bare_columns) else 1
        raise InputError(f"{path}:{first_line}: no examples; restore the file")
    texts_b = texts[1] if task.pair else None
    return Split(task, split, path, texts[0], texts_b, extra if labelled else None, None if labelled else extra)


def _column(path, columns, name):
    if name not in columns:
        raise InputError(f"{path}:1: no column {name!r} among {', '.join(columns)[:200]}; is it the file of this task?")
    return columns.index(name)


def _index(value, path, number):
    """What names a test row in the predictions, which are tab-separated lines."""
    if any(letter in value for letter in "\t\r\n"):
        raise InputError(f"{path}:{number}: the index {value[:80]!r} has a tab or a line break; take it out")
    return value


def _parse_label(task, value, path, number):
    """The class id or score in the label field ``value``."""
    if not task.regression:
        if value in task.file_labels:
            return task.file_labels.index(value)
        raise InputError(f"{path}:{number}: unknown label {value[:80]!r}; "
                         f"{task.name} has {', '.join(task.file_labels)}")
    try:
        score = float(value)
    except ValueError:
        score = math.nan
    low, high = task.score_range
    if low <= score <= high:
        return score
    raise InputError(f"{path}:{number}: score {value[:80]!r} is not a number from {low:g} to {high:g}")
