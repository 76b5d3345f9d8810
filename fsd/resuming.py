"""From where a run begins: its first step, or what an earlier run of the same settings left in the output folder."""

import fcntl
import os
import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fsd import distributed
from fsd.checkpoints import check_undamaged
from fsd.files import InputError, is_main_process, remove_folder, remove_temporaries, write_json
from fsd.output_folder import RECORD_FILE, checkpoints, is_resumable, named_checkpoint, read_record, remove_previous_run
from fsd.tracking import Tracker, logger

# Flags that decide nothing of what is trained. Files and folders are compared by their content, not by their names.
WITHOUT_INFLUENCE = {
    "output_dir", "overwrite_output_dir", "resume", "results_file", "run_file", "logging_steps", "save_steps",
    "save_total_limit", "do_train", "do_eval", "do_predict", "evaluate_during_training", "eval_all_checkpoints",
    "skip_teacher_eval", "overwrite_cache", "per_gpu_eval_batch_size", "local_rank", "no_cuda", "feature_cache_gb",
    "cache_dir", "model_name_or_path", "config_name", "tokenizer_name", "data_dir", "student_model_name_or_path",
    "student_config_name", "model_name_or_path_for_copy", "teacher_memory_path",
}


@dataclass(frozen=True)
class Beginning:
    """The run's ``name``, the same for all its parts; the checkpoint it goes on from, or None for its first step; and
    whether the output folder does not hold it yet.
    """

    name: str
    checkpoint: Path | None = None
    is_new: bool = True


def settings(args, **contents):
    """Flag → value of all that decides what is trained.

    ``contents`` has for flags what counts of them instead of their value, such as the hash of what a file holds.
    """
    flags = {name: value for name, value in vars(args).items() if name not in WITHOUT_INFLUENCE}
    contents["nproc_per_node"] = distributed.world_size()
    return {f"--{name}": value for name, value in (flags | contents).items()}


def take_named_checkpoint(args):
    """The checkpoint-N that ``--student_model_name_or_path`` names, or None.

    The flag itself then becomes what it was when that run was started: the student has the same start.
    """
    named = named_checkpoint(args)
    if named is not None:
        record = read_record(named)
        start = record and record["arguments"].get("student_model_name_or_path")
        if not isinstance(start, str | None):
            raise InputError(f"{named / RECORD_FILE}: student_model_name_or_path is no name; restore the file")
        args.student_model_name_or_path = start
    return named


@contextmanager
def held(output_dir):
    """Keep the folder to this run while the block runs, and clear away what killed ones left half written in it."""
    if not is_main_process():
        yield
        return
    output_dir = Path(output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        folder = os.open(output_dir, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"--output_dir {output_dir}: cannot use it as a folder: {error.strerror}") from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = "another run is writing there; wait for its end, or name another folder"
            raise InputError(f"--output_dir {output_dir}: {problem}") from None
        for written in (output_dir, output_dir / "predictions", *(path for _, path in checkpoints(output_dir))):
            remove_temporaries(written)
        yield
    finally:
        os.close(folder)


def find_beginning(args, wanted, kind, named=None):
    """Where this run begins, or None if it is already finished, which the log then says.

    Args:
        wanted: the :func:`settings` of this run.
        kind: what the name of a new run starts with.
        named: the checkpoint that :func:`take_named_checkpoint` found.

    Raises:
        InputError: the run to go on with has other settings, and names the first flag that differs; or its checkpoint is
            damaged.
    """
    beginning = _find_beginning(args, wanted, kind, named)
    if beginning is not None and beginning.checkpoint is not None:
        check_undamaged(beginning.checkpoint)
    return beginning


def _find_beginning(args, wanted, kind, named):
    new_name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    output_dir = Path(args.output_dir)
    inside = named is not None and named.parent.resolve() == output_dir.resolve()
    record = read_record(output_dir) if args.resume or inside else None
    if named is not None:
        check_same_settings(read_record(named), wanted, named)
    if record is not None:
        try:
            check_same_settings(record, wanted, output_dir)
        except InputError:
            if not args.overwrite_output_dir:
                raise
            return Beginning(new_name)
        if args.resume and record["finished"]:
            logger.info("the run in %s is finished, nothing is left to do; without --do_train it is evaluated again", output_dir)
            return None
        found = [path for _, path in checkpoints(output_dir) if is_resumable(path)]
        return Beginning(record["run"], found[-1] if args.resume and found else named, is_new=False)
    return Beginning(new_name, named)


def begin(args, beginning, wanted, facts):
    """Clear the output folder of what does not belong to this run, write its record, and open its TensorBoard folder.

    Returns:
        :class:`fsd.tracking.Tracker`
    """
    step = int(beginning.checkpoint.name.removeprefix("checkpoint-")) if beginning.checkpoint else 0
    # All processes have read the folder before the main one changes it.
    distributed.check_same({"checkpoints in --output_dir": f"{step:x}"})
    if is_main_process():
        if beginning.is_new and args.overwrite_output_dir:
            remove_previous_run(args.output_dir)
        for later, path in checkpoints(args.output_dir):
            if later > step:
                remove_folder(path)
    # Before the TensorBoard folder is made: killed in between, the run would make another one under another name.
    write_record(args.output_dir, beginning, wanted, **facts)
    return Tracker(args.run_file, beginning.name, step)


def write_record(output_dir, beginning, wanted, finished=False, **facts):
    """Keep beside a run what it was started with; ``finished`` says that nothing of it is left to do."""
    if is_main_process():
        write_json(Path(output_dir) / RECORD_FILE, {"run": beginning.name, "finished": finished, "settings": wanted, **facts})


def check_same_settings(record, wanted, where):
    """Refuse to go on in ``where`` with other settings than it was started with, naming the first flag that differs."""
    if record is None:
        raise InputError(f"{where} holds no run that this version can resume; name another --output_dir")
    had = record["settings"]
    for flag, value in wanted.items():
        if had.get(flag) == value:
            continue
        if flag.removeprefix("--") in WITHOUT_INFLUENCE:  # which are compared by content
            raise InputError(f"{flag}: its content is not what the run in {where} was started with; restore it, or name "
                             "another --output_dir")
        raise InputError(f"{flag} is {value}, but the run in {where} was started with {had.get(flag)}; give that again, or name "
                         "another --output_dir")
