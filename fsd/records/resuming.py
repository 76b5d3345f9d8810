"""Where a run starts: at its first step, or at a checkpoint of an earlier run with the same settings."""

import logging
import os
import secrets
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fsd.records.checkpoints import check_undamaged
from fsd.records.output_folder import (
    PREDICTIONS,
    RECORD_FILE,
    checkpoints,
    is_resumable,
    read_record,
    remove_checkpoint,
    remove_previous_run,
)
from fsd.records.public_names import public_values
from fsd.system.errors import InputError
from fsd.system.files import read_json, remove_temporaries, write_json
from fsd.system.launcher import is_main_process
from fsd.system.locks import exclusive_lock
from fsd.system.processes import check_same

logger = logging.getLogger(__name__)

CONTENT = "sha256:"  # prefix for flags that name a file: runs compare its content, not its path


@dataclass(frozen=True)
class ResumePoint:
    """Where a run starts.

    Attributes:
        run: its name, which stays the same when it is resumed.
        checkpoint: the checkpoint to resume from, or None to start at the first step.
        is_new: whether the output folder does not hold this run yet.
    """

    run: str
    checkpoint: Path | None = None
    is_new: bool = True

    @property
    def step(self):
        """Number of updates already made."""
        return int(self.checkpoint.name.removeprefix("checkpoint-")) if self.checkpoint else 0


@contextmanager
def locked_output_dir(output_dir):
    """Lock the folder for this run while the block runs, and remove half-written files of killed runs."""
    if not is_main_process():
        yield
        return
    output_dir = Path(output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output_dir {output_dir}: cannot use it as a folder: {error.strerror}") from error
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(output_dir, wait=False))
        except BlockingIOError:
            problem = "another run is writing there; wait until it ends, or name another folder"
            raise InputError(f"--output_dir {output_dir}: {problem}") from None
        for folder in (output_dir, output_dir / PREDICTIONS, *(path for _, path in checkpoints(output_dir))):
            remove_temporaries(folder)
        yield


def find_resume_point(output_dir, settings, kind, *, resume, overwrite, checkpoint=None):
    """The :class:`ResumePoint` of this run, or None (and a log line) if it is already finished.

    Args:
        settings: flag → value, for every flag that affects training.
        kind: prefix of a new run's name.
        resume, overwrite: the flags ``--resume`` and ``--overwrite_output_dir``.
        checkpoint: the checkpoint that the command line names.

    Raises:
        InputError: the earlier run has other settings (the message names the first flag that differs), or its checkpoint
            is damaged.
    """
    output_dir = Path(output_dir)
    new_run = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    point = ResumePoint(new_run, checkpoint)
    is_inside = checkpoint is not None and checkpoint.parent.resolve() == output_dir.resolve()
    record = read_record(output_dir) if resume or is_inside else None
    if checkpoint is not None:
        check_same_settings(read_record(checkpoint), settings, checkpoint)
    if record is not None:
        try:
            check_same_settings(record, settings, output_dir)
        except InputError:
            if not overwrite:
                raise
            return ResumePoint(new_run)
        if resume and record["finished"]:
            logger.info("the run in %s is finished: nothing to do", output_dir)
            return None
        newest = [path for _, path in checkpoints(output_dir) if is_resumable(path)][-1:] if resume else []
        checkpoint = newest[0] if newest else checkpoint
        name = new_run if is_copy(output_dir, record, checkpoint) else record["run"]
        point = ResumePoint(name, checkpoint, is_new=False)
    if point.checkpoint is not None:
        check_undamaged(point.checkpoint)
    return point


def is_copy(output_dir, record, checkpoint):
    """Whether the folder was copied from the run's own folder, which is still there. One that was moved is the run's own.

    Args:
        record: the record in ``output_dir``.
        checkpoint: the checkpoint in it that the run goes on from, or None. Its record has the full path even if the run is
            finished.
    """
    home = (read_record(checkpoint) if checkpoint else record).get("folder", "")
    if not os.path.isabs(home) or os.path.realpath(home) == os.path.realpath(output_dir):
        return False
    path = Path(home) / RECORD_FILE
    there = read_json(path) if path.is_file() else None
    return isinstance(there, dict) and there.get("run") == record["run"]


def prepare_output_dir(output_dir, point, settings, facts, overwrite):
    """Remove files of other runs and later checkpoints from the output folder, and write the run's record."""
    # check_same also waits until all processes have read the folder, before the main process changes it.
    check_same({"checkpoints in --output_dir": f"{point.step:x}"})
    if is_main_process():
        if point.is_new and overwrite:
            remove_previous_run(output_dir)
        for later, path in checkpoints(output_dir):
            if later > point.step:
                remove_checkpoint(path)
    write_record(output_dir, point, settings, facts)


def write_record(output_dir, point, settings, facts, finished=False):
    """Write a run's settings into its folder; ``finished`` says that the run is complete.

    Only a complete run's folder is uploaded, so its record names no folders of this machine. Checkpoints, which copy the
    record of the run on its way, keep them: going on from one needs the student's start, and the folder that it belongs to.
    """
    if is_main_process():
        record = {"run": point.run, "finished": finished, "folder": os.path.realpath(output_dir), "settings": settings, **facts}
        write_json(Path(output_dir) / RECORD_FILE, public_values(record) if finished else record)


def check_same_settings(record, settings, where):
    """Raise an ``InputError`` that names the first flag that differs from the settings of the run in ``where``."""
    if record is None:
        raise InputError(f"{where} holds no run that this version can resume; name another --output_dir")
    before = record["settings"]
    for flag, value in settings.items():
        if before.get(flag) == value:
            continue
        if str(value).startswith(CONTENT) or str(before.get(flag)).startswith(CONTENT):
            raise InputError(f"{flag}: its content has changed since the run in {where} started; restore it, or name "
                             "another --output_dir")
        raise InputError(f"{flag} is {value}, but the run in {where} was started with {before.get(flag)}; use that, or "
                         "name another --output_dir")
