"""The results file: one CSV row per finished run, of any task and method.

Imports nothing heavy, so that argument errors appear at once.
"""

import csv
import io
import os
from pathlib import Path

from fsd.glue.tasks import METRIC_NAMES
from fsd.system.errors import InputError
from fsd.system.files import check_folder, written_whole
from fsd.system.locks import exclusive_lock

RESULT_COLUMNS = (
    "time", "task", "method", "teacher", "output_dir", "seed", "alpha", "beta", "temperature", "gamma_i", "gamma_l",
    "gamma_g", "gamma_m", "do_layerwise", "mask_padding", "copied_from", "train_samples", "max_seq_length", "batch_size",
    "accumulation", "epochs", "steps", "learning_rate", "precision", "group_by_length", "compile",
    "cache_teacher", *METRIC_NAMES, "seconds", "commit", "run",
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

    Raises:
        InputError: it cannot be read, or another version or program wrote it; the message names file and line.
    """
    what, line, rows = f"--results_file {path}", 1, []
    if not os.path.exists(path) or not os.path.getsize(path):
        return rows
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            if tuple(next(reader, ())) != RESULT_COLUMNS:
                raise InputError(f"{what}:1: its columns are not this version's; move it away or name another file")
            for row in reader:
                line = reader.line_num
                if len(row) != len(RESULT_COLUMNS):
                    fields = f"{len(row)} fields instead of {len(RESULT_COLUMNS)}"
                    raise InputError(f"{what}:{line}: {fields}; fix the row, or move the file away")
                rows.append(dict(zip(RESULT_COLUMNS, row, strict=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{what}: cannot read it beyond line {line}: {error}; fix it, or move it away") from error
    return rows


def append_result(path, row):
    """Append one row to the results file, unless the run has one. A lock keeps parallel runs from losing rows."""
    path = Path(os.path.realpath(path))  # writes to a link's target, so that the link stays
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(path.with_name(f".{path.name}.lock")):
            check_results_file(path)
            if any(known["run"] == row["run"] for known in read_results(path)):
                return
            old = path.read_bytes() if path.exists() else b""
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, RESULT_COLUMNS, restval="", lineterminator="\n")
            if not old:
                writer.writeheader()
            writer.writerow(row)
            with written_whole(path) as temporary:
                temporary.write_bytes(old + (b"\n" if old and not old.endswith(b"\n") else b"") + text.getvalue().encode())
    except OSError as error:
        raise InputError(f"--results_file {path}: cannot write there: {error.strerror}") from error
