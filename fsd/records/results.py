"""The results file: one CSV row per finished run, of any task and method.

Imports nothing heavy, so that argument errors appear at once.
"""

import csv
import io
import json
import os
from pathlib import Path

from fsd.glue.tasks import METRIC_NAMES
from fsd.system.errors import InputError
from fsd.system.files import check_folder, written_whole
from fsd.system.locks import exclusive_lock

RESULT_COLUMNS = (
    "time", "task", "method", "role", "teacher", "teacher_hash", "memory", "output_dir", "seed", "alpha", "beta",
    "temperature", "gamma_i", "gamma_l", "gamma_g", "gamma_m", "released_intra", "debiased", "similarity",
    "normalize_distances", "memory_learning_rate", "student_memory_init", "rkd_distance", "rkd_angle", "do_layerwise",
    "mask_padding", "copied_from", "student_model_type", "student_layers", "student_hidden_size", "parameters",
    "train_samples", "train_data", "teacher_data", "max_seq_length", "batch_size", "accumulation", "epochs", "steps",
    "learning_rate", "precision", "group_by_length", "compile", "cuda_graphs", "cache_teacher", "main_metric", *METRIC_NAMES,
    "seconds", "commit", "flags", "run",
)


def check_results_file(path):
    """Raise an ``InputError`` if the results file is not a file or this version did not write it; changes nothing."""
    path = Path(path)
    if os.path.lexists(path) and not path.is_file():  # a folder, a pipe, a device, a broken link
        raise InputError(f"--results_file {path} is not a regular file; name a CSV file")
    check_folder(Path(os.path.realpath(path)).parent, f"--results_file {path}")
    read_results(path)


def read_results(path):
    """The rows of the results file, as dictionaries of text; an empty list if the file is missing or empty.

    Columns are read by name. Cells of columns that the file does not have are empty.

    Raises:
        InputError: it cannot be read, or another program wrote it; the message names file and line.
    """
    return _read(path)[1]


def _read(path):
    """(columns of the file, its rows)."""
    what, line, columns, rows = f"--results_file {path}", 1, RESULT_COLUMNS, []
    if not os.path.exists(path) or not os.path.getsize(path):
        return columns, rows
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # a spreadsheet may put a mark first
            reader = csv.reader(file, strict=True)
            columns = tuple(next(reader, ()))
            if unknown := [name for name in columns if name not in RESULT_COLUMNS] or not columns:
                named = f" ({unknown[0]!r} is none of them)" if columns else ""
                raise InputError(f"{what}:1: its columns are not this program's{named}; move it away or name another file")
            if len(set(columns)) < len(columns):
                raise InputError(f"{what}:1: a column is there twice; fix the header, or move the file away")
            for row in reader:
                line = reader.line_num
                if len(row) != len(columns):
                    fields = f"{len(row)} fields instead of {len(columns)}"
                    raise InputError(f"{what}:{line}: {fields}; fix the row, or move the file away")
                rows.append(dict.fromkeys(RESULT_COLUMNS, "") | dict(zip(columns, row, strict=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{what}: cannot read it beyond line {line}: {error}; fix it, or move it away") from error
    return columns, rows


def append_result(path, row):
    """Append one row to the results file; a row that the run has there already is replaced. A lock keeps parallel runs from
    losing rows.

    A file of an older version, which has fewer columns, is written again with all columns.
    """
    path = Path(os.path.realpath(path))  # writes to a link's target, so that the link stays
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(path.with_name(f".{path.name}.lock")):
            columns, rows = _read(path)
            others = [known for known in rows if known["run"] != row["run"]]
            is_longer_only = path.exists() and columns == RESULT_COLUMNS and len(others) == len(rows)
            old = path.read_bytes() if is_longer_only else b""
            new = _text([row], header=False) if old else _text([*others, row])
            with written_whole(path) as temporary:
                temporary.write_bytes(old + (b"\n" if old and not old.endswith(b"\n") else b"") + new)
    except OSError as error:
        raise InputError(f"--results_file {path}: cannot write there: {error.strerror}") from error


def add_scores(path, known, metrics):
    """Write dev scores into the rows that have the cells ``known`` (name → text) and no scores; tell whether there were any."""
    path = Path(os.path.realpath(path))
    if not path.is_file():
        return False
    try:
        with exclusive_lock(path.with_name(f".{path.name}.lock")):
            rows = read_results(path)
            found = [row for row in rows if known.items() <= row.items() and not any(row[name] for name in METRIC_NAMES)]
            for row in found:
                row |= metrics
            if found:
                with written_whole(path) as temporary:
                    temporary.write_bytes(_text(rows))
    except OSError as error:
        raise InputError(f"--results_file {path}: cannot write there: {error.strerror}") from error
    return bool(found)


def _text(rows, header=True):
    """Rows as the bytes of a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, RESULT_COLUMNS, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def row_flags(row):
    """The flags of a results row; an empty dictionary for a row of an older version."""
    try:
        flags = json.loads(row["flags"] or "{}")
    except (ValueError, RecursionError):
        return {}
    return flags if isinstance(flags, dict) else {}


def path_for_row(path, results_file):
    """A path as rows hold it: relative to the results file's folder. Names of the hub and empty cells stay."""
    if not path or not os.path.exists(path):
        return path or ""
    return os.path.relpath(os.path.realpath(path), os.path.dirname(os.path.realpath(results_file)))


def model_for_row(path, results_file):
    """A model as rows hold it: as :func:`path_for_row`, but by its name alone where only the root folder is above both."""
    if path and os.path.exists(path):
        folder, above = os.path.realpath(path), os.path.dirname(os.path.realpath(results_file))
        if os.path.commonpath([folder, above]) == os.path.sep:
            return os.path.basename(folder)
    return path_for_row(path, results_file)


def path_of_row(path, results_file):
    """The path that a row holds, from the working directory. Older rows are absolute, or relative to where the run started."""
    beside = os.path.join(os.path.dirname(os.path.realpath(results_file)), path)
    return beside if path and os.path.exists(beside) else path
