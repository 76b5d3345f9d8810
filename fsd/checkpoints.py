"""The output folder: what may be written there, models written whole, and checkpoints that training goes on from."""

import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fsd import distributed
from fsd.files import (
    InputError,
    check_folder,
    is_main_process,
    is_temporary,
    put_in_place,
    read_json,
    remove_folder,
    write_json,
)
from fsd.models import not_finite, quiet_loading

RUN_FILES = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json",
    "added_tokens.json", "student_memory.safetensors", "training_args.json", "eval_results.txt", "predictions",
    "memory.safetensors", "clustering.safetensors",
)
RECORD_FILE = "training_args.json"  # what a run was started with; its presence marks the folder as a run's
STATE_TENSORS, STATE_VALUES = "training_state.safetensors", "training_state.json"


def check_output_dir(args, inputs, named=None):
    """Refuse an output folder that training would spoil; changes nothing.

    Args:
        inputs: folders the run reads models from; training never writes over one.
        named: the checkpoint that the command line names to go on from.

    Raises:
        InputError: ``--output_dir`` is a file, is one of ``inputs``, or has content without ``--overwrite_output_dir`` that
            is no run to resume; or that content has our files' names but is no run of ours.
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
    content = {path.name for path in output_dir.iterdir() if not is_temporary(path)} if output_dir.is_dir() else set()
    goes_on = args.resume or named is not None and named.parent.resolve() == output_dir.resolve()
    if not content or goes_on and RECORD_FILE in content:
        return
    if not args.overwrite_output_dir:
        without = ", and it holds no run to resume" if args.resume else ""
        raise InputError(f"--output_dir {output_dir} is not empty{without}; name another folder or give --overwrite_output_dir")
    if RECORD_FILE not in content and (taken := sorted(content & set(RUN_FILES))):
        raise InputError(f"--output_dir {output_dir} holds {taken[0]} but is no run of ours; name another folder")


def _real(path):
    return Path(os.path.realpath(path))


def _run_paths(output_dir):
    """All that a run of ours may have left in the folder."""
    return [Path(output_dir) / name for name in RUN_FILES] + [path for _, path in checkpoints(output_dir)]


def remove_previous_run(output_dir):
    """Remove the files that a run of ours left in the folder, and nothing else."""
    output_dir = Path(output_dir)
    for _, path in checkpoints(output_dir):
        remove_folder(path)
    # The record goes last: as long as anything is left, the folder is known as a run's.
    for path in [output_dir / name for name in RUN_FILES if name != RECORD_FILE] + [output_dir / RECORD_FILE]:
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)


def checkpoints(output_dir):
    """[(step, path)] of the checkpoint-N folders, oldest first."""
    folders = Path(output_dir).glob("checkpoint-*")
    found = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folders if path.is_dir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def is_resumable(path):
    """Whether the folder is a checkpoint that training can go on from, and not only a model."""
    return bool(re.fullmatch(r"checkpoint-\d+", path.name)) and (path / STATE_VALUES).is_file()


def save_model(folder, model, tokenizer, student_memory=None):
    """Write a plain Hugging Face folder, and the student memory beside it; each file whole or not at all."""
    folder = Path(folder)
    if damaged := not_finite(model):
        raise InputError(f"the model has diverged: {damaged} holds NaN or infinity; lower --learning_rate or --weight_decay")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".saving-", suffix=".tmp"))
        try:
            with quiet_loading():
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
            if student_memory is not None:
                student_memory.save(temporary)
            for path in temporary.iterdir():
                put_in_place(path, folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except Exception as error:  # safetensors reports a full disk with an error of its own
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot write the model to {folder}: {error}; free some space or choose another folder") from error


@dataclass
class TrainingState:
    """All that training carries from one update to the next. The position in the data follows from the step.

    ``log`` has ``state() -> (tensors, values)`` and ``load_state(tensors, values)``; ``seconds`` of training lie behind.
    """

    student: nn.Module
    student_memory: nn.Module | None
    optimizer: torch.optim.Optimizer
    scheduler: object
    scaler: torch.amp.GradScaler
    log: object
    device: torch.device
    seconds: float = 0.0

    def __post_init__(self):
        self._start = time.perf_counter()

    def training_seconds(self):
        """Seconds of training so far, those before a resumption included."""
        return self.seconds + time.perf_counter() - self._start

    def save(self, folder, step, random_states):
        """Write what the model's own files do not hold."""
        tensors = {f"random.{device}": states for device, states in random_states.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        log_tensors, log_values = self.log.state()
        tensors |= {f"log.{name}": value for name, value in log_tensors.items()}
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / STATE_TENSORS)
        write_json(folder / STATE_VALUES, {
            "step": step, "seconds": self.training_seconds(), "device": self.device.type, "log": log_values,
            "scheduler": self.scheduler.state_dict(), "scaler": self.scaler.state_dict(),
        })

    def load(self, folder):
        """Take over everything that ``checkpoint-N`` holds; returns its step.

        Raises:
            InputError: a file is missing or damaged, is of a model of other sizes, or is from another kind of device.
        """
        values = read_json(folder / STATE_VALUES)
        if values.get("device") != self.device.type:
            raise InputError(f"{folder} was written on {values.get('device')}, this run is on {self.device.type}: "
                             "go on there, or see --no_cuda")
        try:
            tensors = load_file(folder / STATE_TENSORS)
            self.student.load_state_dict(load_file(folder / "model.safetensors"))
            if self.student_memory is not None:
                self.student_memory.load_state_dict(load_file(folder / "student_memory.safetensors"))
            self._load_optimizer(tensors, values)
            self.scaler.load_state_dict(values["scaler"])
            self.log.load_state(_below("log", tensors), values["log"])
            set_random_states(_below("random", tensors))
            self.seconds = values["seconds"]
            return values["step"]
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"{folder}: cannot resume from it: {reason}; remove it to go on from an older one") from error

    def _load_optimizer(self, tensors, values):
        state = {}
        for name, value in _below("optimizer", tensors).items():
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        if set(state) != {index for group in groups for index in group["params"]}:
            raise ValueError("its optimizer has other parameters")
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.scheduler.load_state_dict(values["scheduler"])
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate


def _below(prefix, tensors):
    """The tensors named ``prefix.…``, without the prefix."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def random_states(device):
    """The states [processes, bytes] of the generators that dropout draws from: the CPUs', and the GPUs' where there are any."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {kind: distributed.every_process(state.to(device)) for kind, state in states.items()}


def set_random_states(states):
    """Put back this process's part of what :func:`random_states` returned."""
    own = {kind: rows[distributed.rank()].clone() for kind, rows in states.items()}  # of a view the offset is overlooked
    torch.set_rng_state(own["cpu"])
    if "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"])


def save_checkpoint(output_dir, step, limit, tokenizer, state):
    """Write ``checkpoint-<step>``, complete under its name or not there, then remove all but the newest ``limit``.

    All processes call this, and the main one writes.

    Returns:
        its path
    """
    output_dir = Path(output_dir)
    final = output_dir / f"checkpoint-{step}"
    temporary = output_dir / f".{final.name}.tmp"
    states = random_states(state.device)
    if not is_main_process():
        return final
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        save_model(temporary, state.student, tokenizer, state.student_memory)
        try:
            state.save(temporary, step, states)
            shutil.copyfile(output_dir / RECORD_FILE, temporary / RECORD_FILE)
            if final.exists():
                remove_folder(final)
            put_in_place(temporary, final)
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot write {final}: {error}; free some space or choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    keep_newest(output_dir, limit)
    return final


def keep_newest(output_dir, limit):
    """Remove all checkpoints but the newest ``limit``."""
    for _, path in checkpoints(output_dir)[:-limit]:
        remove_folder(path)
