"""The output folder: what may be written there, and models written whole."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from fsd.files import InputError, check_folder
from fsd.models import not_finite, quiet_loading

RUN_FILES = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json",
    "added_tokens.json", "student_memory.safetensors", "training_args.json", "eval_results.txt", "predictions",
    "memory.safetensors",
)


def check_output_dir(args, inputs):
    """Refuse an output folder that training would spoil; changes nothing.

    Args:
        inputs: folders the run reads models from; training never writes over one.

    Raises:
        InputError: ``--output_dir`` is a file, is one of ``inputs``, or has content without ``--overwrite_output_dir``;
            or that content has our files' names but is no run of ours.
    """
    output_dir = Path(args.output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"--output_dir {output_dir} is a file; name a folder")
    check_folder(output_dir, f"--output_dir {output_dir}")
    ours = [_real(path) for path in _run_paths(output_dir)]
    for flag, path in inputs.items():
        if path and (_real(path) == _real(output_dir) or any(_real(path).is_relative_to(own) for own in ours)):
            raise InputError(f"--output_dir {output_dir} is also {flag}, which the run would write over; name another folder")
    for flag in ("results_file", "run_file", "cache_teacher"):
        path = getattr(args, flag, None)
        if path and any(_real(path).is_relative_to(own) for own in ours):
            raise InputError(f"--{flag} {path} is where --output_dir {output_dir} has a file of its own; name another place")
    content = {path.name for path in output_dir.iterdir()} if output_dir.is_dir() else set()
    if not content:
        return
    if not args.overwrite_output_dir:
        raise InputError(f"--output_dir {output_dir} is not empty; name another folder or give --overwrite_output_dir")
    if "training_args.json" not in content and (taken := sorted(content & set(RUN_FILES))):
        raise InputError(f"--output_dir {output_dir} holds {taken[0]} but is no run of ours; name another folder")


def _real(path):
    return Path(os.path.realpath(path))


def _run_paths(output_dir):
    """All that a run of ours may have left in the folder."""
    return [Path(output_dir) / name for name in RUN_FILES] + [path for _, path in checkpoints(output_dir)]


def remove_previous_run(output_dir):
    """Remove the files that a run of ours left in the folder, and nothing else."""
    for path in _run_paths(output_dir):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def checkpoints(output_dir):
    """[(step, path)] of the checkpoint-N folders, oldest first."""
    folders = Path(output_dir).glob("checkpoint-*")
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folders if path.is_dir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def save_model(folder, model, tokenizer, student_memory=None):
    """Write a plain Hugging Face folder, and the student memory beside it; each file whole or not at all."""
    folder = Path(folder)
    if damaged := not_finite(model):
        raise InputError(f"the model has diverged: {damaged} holds NaN or infinity; lower --learning_rate or --weight_decay")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".saving-"))
        try:
            with quiet_loading():
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
            if student_memory is not None:
                student_memory.save(temporary)
            for path in temporary.iterdir():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except Exception as error:  # safetensors reports a full disk with an error of its own
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot write the model to {folder}: {error}; free some space or choose another folder") from error


def save_checkpoint(output_dir, step, limit, model, tokenizer, student_memory=None):
    """Write ``checkpoint-<step>``, complete under its name or not there, then remove all but the newest ``limit``."""
    temporary = Path(output_dir) / f".checkpoint-{step}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save_model(temporary, model, tokenizer, student_memory)
    final = Path(output_dir) / f"checkpoint-{step}"
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for _, path in checkpoints(output_dir)[:-limit]:
        shutil.rmtree(path)
