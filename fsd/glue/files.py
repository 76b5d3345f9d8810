"""Finding and reading the official GLUE files. Imports only light modules."""

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

from fsd.glue.tasks import Task, plain_name
from fsd.system.errors import InputError

logger = logging.getLogger(__name__)

COLA_COLUMNS = ("source", "label", "author_mark", "sentence")  # CoLA's train and dev files have no header
SHORT_ROW_TASK = "QQP"  # line breaks inside questions split some rows of its official train and dev files
# Usual places of the diagnostic set, relative to MNLI's folder.
AX_PLACES = ("../AX/AX.tsv", "../diagnostic/diagnostic.tsv", "../AX.tsv", "AX.tsv", "diagnostic.tsv")


@dataclass
class Split:
    """The content of one file. Each list has one entry per example; ``labels`` are class ids or STS-B scores.

    ``labels`` is None for test splits. ``index`` (the file's row numbers, as text) is None for all other splits.
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
        raise InputError(f"--data_dir {data_dir} is not a folder; give {task.name}'s folder or the GLUE root above it")
    if (data_dir / task.name).is_dir():
        return data_dir / task.name
    for child in sorted(data_dir.iterdir()):
        if child.is_dir() and plain_name(child.name) == plain_name(task.name):
            return child
    if any((data_dir / name).is_file() for name in task.files.values()):
        return data_dir
    raise InputError(f"--data_dir {data_dir} holds neither a folder {task.name} nor {task.files['train']}; "
                     f"give {task.name}'s folder or the GLUE root above it")


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
        raise InputError(f"{path}: no such file; is --data_dir in the official GLUE layout?")
    return path


def has_split(task, data_dir, split):
    """Whether the file of ``split`` exists (test files and AX are needed only for predictions)."""
    return split_path(task, data_dir, split).is_file()


def read_split(task, data_dir, split):
    """Find and read the official file of ``split``; see :func:`read_file`."""
    return read_file(task, split, split_path(task, data_dir, split))


def read_file(task, split, path):
    """Read the official file ``path`` of ``split`` into a :class:`Split`.

    Quote characters are plain text. A byte-order mark and CRLF line ends are accepted. Columns are found by the names in
    the header (CoLA's train and dev have no header). Short rows in QQP's train and dev are skipped with one warning.

    Raises:
        InputError, with file and line: the file or a column is missing, the file is empty, a row has another number of
            fields than the header, a label is unknown, or a score is outside [0, 5].
    """
    lines = _read_lines(path)
    labelled = split not in task.test_splits
    if task.name == "CoLA" and labelled:
        columns, first_line = COLA_COLUMNS, 1
    else:
        columns, first_line = tuple(lines.pop(0).split("\t")), 2
    text_at = [_column(path, columns, name) for name in task.text_columns]
    extra_at = _column(path, columns, _extra_column(task, split))
    texts, extra, short = [[] for _ in text_at], [], 0
    for number, line in enumerate(lines, first_line):
        fields = line.split("\t")
        if len(fields) != len(columns):
            if task.name == SHORT_ROW_TASK and labelled and len(fields) < len(columns):
                short += 1
                continue
            raise InputError(f"{path}:{number}: {len(fields)} tab-separated fields instead of {len(columns)}; "
                             "restore the official file")
        for column, at in zip(texts, text_at, strict=True):
            column.append(fields[at])
        value = fields[extra_at]
        extra.append(_parse_label(task, value, path, number) if labelled else value)
    if short:
        logger.warning("%s: skipped %d short rows; the official file has a few", path, short)
    if not extra:
        raise InputError(f"{path}:{first_line}: no examples; restore the official file")
    texts_b = texts[1] if task.pair else None
    return Split(task, split, path, texts[0], texts_b, extra if labelled else None, None if labelled else extra)


def _extra_column(task, split):
    """The column to read besides the texts: the label, or the index for the prediction file."""
    if split == "ax":
        return "index"
    return task.index_column if split in task.test_splits else task.label_column


def _read_lines(path):
    """The lines of a UTF-8 file without line ends. Only CR and LF end a line; other Unicode line breaks are text."""
    if path.exists() and not path.is_file():  # reading a FIFO would block
        raise InputError(f"{path}: not a regular file; restore the official file")
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = f"cannot read it ({error.strerror}); is --data_dir in the official GLUE layout?"
        raise InputError(f"{path}: {reason}") from error
    if not content.strip():
        raise InputError(f"{path}:1: the file is empty; restore the official file")
    if (at := content.find(b"\0")) >= 0:
        number = content.count(b"\n", 0, at) + 1
        raise InputError(f"{path}:{number}: a NUL byte; save the file as plain UTF-8 text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    # A lone carriage return also ends a row, as in the readers that gave the official row counts.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _column(path, columns, name):
    if name not in columns:
        raise InputError(f"{path}:1: no column {name!r} among {', '.join(columns)[:200]}; is it the file of this task?")
    return columns.index(name)


def _parse_label(task, value, path, number):
    """The class id or STS-B score in the label field ``value``."""
    if not task.regression:
        if value in task.file_labels:
            return task.file_labels.index(value)
        raise InputError(f"{path}:{number}: unknown label {value[:80]!r}; "
                         f"{task.name} has {', '.join(task.file_labels)}")
    try:
        score = float(value)
    except ValueError:
        score = math.nan
    if 0 <= score <= 5:
        return score
    raise InputError(f"{path}:{number}: score {value[:80]!r} is not a number from 0 to 5")
