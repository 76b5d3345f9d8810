"""Where a run starts or resumes: its first step, or what an earlier run of the same settings left in the output folder."""

import logging
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fsd.records.checkpoints import check_undamaged
from fsd.records.output_folder import RECORD_FILE, checkpoints, is_resumable, read_record, remove_previous_run
from fsd.system.errors import InputError
from fsd.system.files import remove_folder, remove_temporaries, write_json
from fsd.system.launcher import is_main_process
from fsd.system.locks import exclusive_lock
from fsd.system.processes import check_same

logger = logging.getLogger(__name__)

CONTENT = "sha256:"  # begins the setting of a flag that names a file: what counts is what the file holds


@dataclass(frozen=True)
class ResumePoint:
    """Where a run starts.

    Attributes:
        run: its name, the same however often it is resumed.
        checkpoint: the checkpoint that it resumes from, or None for its first step.
        is_new: whether the output folder does not hold this run yet.
    """

    run: str
    checkpoint: Path | None = None
    is_new: bool = True

    @property
    def step(self):
        """Updates that were made before."""
        return int(self.checkpoint.name.removeprefix("checkpoint-")) if self.checkpoint else 0


@contextmanager
def locked_output_dir(output_dir):
    """Keep the folder to this run while the block runs, and clear away what killed runs left half written in it."""
    if not is_main_process():
        yield
        return
    output_dir = Path(output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output_dir {output_dir}: cannot use it as a folder: {error.strerror}") from error
    try:
        with exclusive_lock(output_dir, wait=False):
            for folder in (output_dir, output_dir / "predictions", *(path for _, path in checkpoints(output_dir))):
                remove_temporaries(folder)
            yield
    except BlockingIOError:
        problem = "another run is writing there; wait for its end, or name another folder"
        raise InputError(f"--output_dir {output_dir}: {problem}") from None


def find_resume_point(output_dir, settings, kind, *, resume, overwrite, checkpoint=None):
    """The :class:`ResumePoint` of this run, or None if it is already finished, which the log then says.

    Args:
        settings: flag → value of all that decides what is trained.
        kind: what the name of a new run starts with.
        resume, overwrite: whether ``--resume`` and ``--overwrite_output_dir`` are given.
        checkpoint: the checkpoint that the command line names to go on from.

    Raises:
        InputError: the run to go on with has other settings, and the message names the first flag that differs; or its
            checkpoint is damaged.
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
            logger.info("the run in %s is finished, nothing is left to do; without --do_train it is evaluated again", output_dir)
            return None
        newest = [path for _, path in checkpoints(output_dir) if is_resumable(path)][-1:] if resume else []
        point = ResumePoint(record["run"], newest[0] if newest else checkpoint, is_new=False)
    if point.checkpoint is not None:
        check_undamaged(point.checkpoint)
    return point


def prepare_output_dir(output_dir, point, settings, facts, overwrite):
    """Clear the output folder of what does not belong to this run, and write the run's record."""
    # All processes have read the folder before the main one changes it.
    check_same({"checkpoints in --output_dir": f"{point.step:x}"})
    if is_main_process():
        if point.is_new and overwrite:
            remove_previous_run(output_dir)
        for later, path in checkpoints(output_dir):
            if later > point.step:
                remove_folder(path)
    write_record(output_dir, point, settings, facts)


def write_record(output_dir, point, settings, facts, finished=False):
    """Keep beside a run what it was started with; ``finished`` says that nothing of it is left to do."""
    if is_main_process():
        write_json(Path(output_dir) / RECORD_FILE, {"run": point.run, "finished": finished, "settings": settings, **facts})


def check_same_settings(record, settings, where):
    """Refuse to go on in ``where`` with other settings than it was started with, naming the first flag that differs."""
    if record is None:
        raise InputError(f"{where} holds no run that this version can resume; name another --output_dir")
    before = record["settings"]
    for flag, value in settings.items():
        if before.get(flag) == value:
            continue
        if str(value).startswith(CONTENT) or str(before.get(flag)).startswith(CONTENT):
            raise InputError(f"{flag}: its content is not what the run in {where} was started with; restore it, or name "
                             "another --output_dir")
        raise InputError(f"{flag} is {value}, but the run in {where} was started with {before.get(flag)}; give that again, or "
                         "name another --output_dir")
