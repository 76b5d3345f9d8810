"""The output folder: which files a run keeps in it, and whether a run may write there.

Imports nothing heavy, so that argument errors appear at once.
"""

import contextlib
import os
import re
from dataclasses import fields
from itertools import count
from pathlib import Path

from fsd.glue.origin import DataOrigin
from fsd.glue.task_file import is_task_name
from fsd.glue.tasks import METRIC_NAMES, TASKS
from fsd.models.hub import RECORD_FILE
from fsd.system.errors import InputError
from fsd.system.files import check_folder, is_temporary, read_json, remove_folder

CARD_FILE, CARD_MARK = "README.md", "<!-- model card by fsd -->"  # a README.md without the mark is the user's own
EVAL_RESULTS = "eval_results.txt"  # dev metrics, a line each: name = value
PREDICTIONS = "predictions"  # folder of the leaderboard's files
RUN_FILES = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "student_memory.safetensors", RECORD_FILE,
    EVAL_RESULTS, PREDICTIONS, "memory.safetensors", "clustering.safetensors",
)
STATE_TENSORS, STATE_VALUES = "training_state.safetensors", "training_state.json"  # of a checkpoint
CHECKPOINT_FILES = {*RUN_FILES, STATE_TENSORS, STATE_VALUES}


def check_output_dir(output_dir, *, read, written, resume, overwrite, checkpoint=None):
    """Raise an ``InputError`` if training would destroy files in the output folder; changes nothing.

    Args:
        read, written: flag → path or None, for the run's other inputs and outputs. The run must not overwrite an input or
            place an output among its own files.
        resume, overwrite: the flags ``--resume`` and ``--overwrite_output_dir``.
        checkpoint: the checkpoint that the command line names.

    Raises:
        InputError: ``output_dir`` is a file, cannot be written to, or is also an input; another output is among its files; it
            is not empty and has no run to resume, without ``overwrite``; or its files have our names but another program
            wrote them.
    """
    output_dir = Path(output_dir)
    what = f"--output_dir {output_dir}"
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{what} is a file; name a folder")
    check_folder(output_dir, what)
    ours = [_real(path) for path in _run_paths(output_dir)]
    for flag, path in read.items():
        if path and (_real(path) == _real(output_dir) or any(_real(path).is_relative_to(own) for own in ours)):
            raise InputError(f"{what} is also {flag}, which the run would write over; name another folder")
    for flag, path in written.items():
        if path and any(_real(path).is_relative_to(own) for own in ours):
            raise InputError(f"{flag} {path} is where {what} has a file of its own; name another place")
    content = {path.name for path in output_dir.iterdir() if not is_temporary(path)} if output_dir.is_dir() else set()
    for name in sorted(content):
        if re.fullmatch(r"checkpoint-\d+", name) and not (output_dir / name / RECORD_FILE).is_file():
            raise InputError(f"{what} holds {name}, which is not a checkpoint of ours; name another folder")
    goes_on = resume or checkpoint is not None and checkpoint.parent.resolve() == output_dir.resolve()
    if not content or goes_on and RECORD_FILE in content:
        return
    if not overwrite:
        without = ", and it holds no run to resume" if resume else ""
        raise InputError(f"{what} is not empty{without}; name another folder or give --overwrite_output_dir")
    if not is_our_record(output_dir / RECORD_FILE) and (others := sorted(content & set(RUN_FILES))):
        raise InputError(f"{what} holds {others[0]} but is not a run of ours; name another folder")


def check_eval_results(output_dir):
    """Raise an ``InputError`` if the output folder's ``eval_results.txt`` is another program's."""
    path = Path(output_dir) / EVAL_RESULTS
    if os.path.lexists(path) and not _has_metrics(path):
        raise InputError(f"--output_dir {output_dir} holds an {EVAL_RESULTS} that is not ours; name another folder")


def _has_metrics(path):
    """Whether a file holds lines ``metric = value`` alone, as ours do."""
    if not path.is_file():
        return False
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return all(line.split(" = ")[0] in METRIC_NAMES for line in lines)


def _real(path):
    return Path(os.path.realpath(path))


def _run_paths(output_dir):
    """All paths that an earlier run of ours may have left in the folder."""
    return [Path(output_dir) / name for name in RUN_FILES] + [path for _, path in checkpoints(output_dir)]


def remove_previous_run(output_dir):
    """Remove the files that a run of ours left in the folder, and nothing else."""
    output_dir = Path(output_dir)
    for _, path in checkpoints(output_dir):
        remove_checkpoint(path)
    # The record goes last: until then, the folder is still recognized as one of ours.
    predictions = [f"{PREDICTIONS}/{name}" for name in _prediction_files(output_dir)]
    for name in (*predictions, *(name for name in RUN_FILES if name not in (PREDICTIONS, RECORD_FILE)), RECORD_FILE):
        (output_dir / name).unlink(missing_ok=True)
    if is_our_card(output_dir / CARD_FILE):
        (output_dir / CARD_FILE).unlink()
    with contextlib.suppress(OSError):  # missing, or a user's own file is in it
        (output_dir / PREDICTIONS).rmdir()


def _prediction_files(output_dir):
    """The names of the prediction files of the run in the folder, whose task its record tells."""
    record = read_json(output_dir / RECORD_FILE) if is_our_record(output_dir / RECORD_FILE) else {}
    task = record.get("task")
    name = task.get("name") if isinstance(task, dict) else None
    official = next((list(task.leaderboard_files.values()) for task in TASKS if task.name == name), None)
    return official or [f"{name}.tsv"] * is_task_name(name)


def remove_checkpoint(path):
    """Remove a checkpoint of ours. What others put into it moves to ``checkpoint-N-kept`` beside it."""
    others = [] if path.is_symlink() else [own for own in path.iterdir() if own.name not in written_into(path)]
    if others:
        kept = next(place for number in count() if not (place := Path(f"{path}-kept{number or ''}")).exists())
        kept.mkdir()
        for own in others:
            own.rename(kept / own.name)
    remove_folder(path)


def written_into(checkpoint):
    """Names of the files that a run of ours wrote into a checkpoint."""
    try:
        names = read_json(checkpoint / STATE_VALUES)["written"]
    except (InputError, KeyError, TypeError):  # damaged, or of an older version
        names = ()
    return CHECKPOINT_FILES | {name for name in names if isinstance(name, str)}


def is_our_record(path):
    """Whether a file is the record of a run of ours, and not another program's file of this name."""
    try:
        record = read_json(path)
    except InputError:
        return False
    return isinstance(record, dict) and {"run", "settings"} <= record.keys()


def is_our_card(path):
    """Whether a file is a model card that a run of ours wrote."""
    return path.is_file() and CARD_MARK in path.read_text(encoding="utf-8", errors="replace")


def trained_on(folder):
    """The :class:`fsd.glue.origin.DataOrigin` that the record in a model's folder tells; unknown where there is none."""
    path = Path(folder) / RECORD_FILE
    record = read_json(path) if path.is_file() else None
    origin = record.get("trained_on") if isinstance(record, dict) else None
    values = [origin.get(field.name, "") for field in fields(DataOrigin)] if isinstance(origin, dict) else []
    return DataOrigin(*values) if all(isinstance(value, str) for value in values) else DataOrigin()


def checkpoints(output_dir):
    """[(step, path)] of the checkpoint-N folders, oldest first."""
    folders = Path(output_dir).glob("checkpoint-*")
    ours = (path for path in folders if (path / RECORD_FILE).is_file())  # other programs name theirs alike
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in ours]
    return sorted((int(match[1]), path) for match, path in found if match)


def is_resumable(path):
    """Whether the folder is a checkpoint that training can resume from, and not only a model."""
    return bool(re.fullmatch(r"checkpoint-\d+", path.name)) and (path / STATE_VALUES).is_file()


def read_record(folder):
    """The record of the run in a folder, or None if there is none.

    Raises:
        InputError: it is damaged, or another version wrote it.
    """
    path = Path(folder) / RECORD_FILE
    if not path.exists():
        return None
    record = read_json(path)
    kinds = {"run": str, "finished": bool, "settings": dict, "arguments": dict}
    if not isinstance(record, dict) or not all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
        raise InputError(f"{path}: not a record of a run that this version can resume; name another --output_dir")
    if not isinstance(record.get("folder", ""), str):
        raise InputError(f"{path}: folder is not a path; restore the file, or name another --output_dir")
    if not re.fullmatch(r"\w[\w.-]*", record["run"]):  # it becomes a folder name
        raise InputError(f"{path}: run is not a name of ours; restore the file, or name another --output_dir")
    return record
