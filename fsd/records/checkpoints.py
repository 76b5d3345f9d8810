"""Saving models, and saving and loading checkpoints."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fsd.memory.student_memory import STUDENT_FILE
from fsd.models.hub import ModelSource
from fsd.models.loading import load_pretrained, not_finite, quiet_loading
from fsd.models.tokenizer import input_names
from fsd.records.output_folder import RECORD_FILE, STATE_TENSORS, STATE_VALUES, checkpoints, remove_checkpoint
from fsd.system.errors import InputError, first_line
from fsd.system.files import TEMPORARY, put_in_place, read_json, write_json
from fsd.system.hashes import file_hash, json_hash
from fsd.system.launcher import is_main_process
from fsd.system.processes import every_process, rank


def save_model(folder, model, tokenizer, student_memory=None):
    """Write a plain Hugging Face folder with the student memory in it. Each file is written completely or not at all."""
    folder = Path(folder)
    if damaged := not_finite(model):
        raise InputError(f"the model has diverged: {damaged} holds NaN or infinity; lower --learning_rate or --weight_decay")
    tokenizer.model_input_names = input_names(model.config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".saving-", suffix=TEMPORARY))
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
    except Exception as error:  # safetensors has its own error for a full disk
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot write the model to {folder}: {error}; free some space or choose another folder") from error


@dataclass
class TrainingState:
    """The state that training carries from one update to the next. The step gives the position in the data.

    ``log`` has ``state() -> (tensors, values)`` and ``load_state(tensors, values)``. ``seconds`` is the training time of
    earlier processes.
    """

    student: nn.Module
    student_memory: nn.Module | None
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    log: Any
    device: torch.device
    seconds: float = 0.0

    def __post_init__(self):
        self._start = time.perf_counter()

    def training_seconds(self):
        """Seconds of training so far, including those before a resume."""
        return self.seconds + time.perf_counter() - self._start

    def save(self, folder, step, random_states):
        """Write the state that is not in the model's own files."""
        tensors = {f"random.{device}": states for device, states in random_states.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        log_tensors, log_values = self.log.state()
        tensors |= {f"log.{name}": value for name, value in log_tensors.items()}
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / STATE_TENSORS)
        values = {
            "step": step, "seconds": self.training_seconds(), "device": self.device.type, "log": log_values,
            "scheduler": self.scheduler.state_dict(), "scaler": self.scaler.state_dict(),
            "files": _tensor_hashes(folder), "written": sorted(path.name for path in folder.iterdir()),
        }
        write_json(folder / STATE_VALUES, values | {"sha256": json_hash(values)})

    def load(self, folder):
        """Load ``checkpoint-N`` and return its step.

        Raises:
            InputError: a file is missing or damaged, its model has other sizes, or it comes from another kind of device.
        """
        values = read_json(folder / STATE_VALUES)
        if values.get("device") != self.device.type:
            raise InputError(f"{folder} was written on {values.get('device')}, this run is on {self.device.type}: "
                             "use the same kind of device, or see --no_cuda")
        try:
            tensors = load_file(folder / STATE_TENSORS)
            # Not the file's own tensors: transformers writes some kinds under other names than their parameters have.
            student, _ = load_pretrained(ModelSource("--resume", str(folder), folder))
            self.student.load_state_dict(student.state_dict())
            if self.student_memory is not None:
                self.student_memory.load_state_dict(load_file(folder / STUDENT_FILE))
            self._load_optimizer(tensors, values)
            self.scaler.load_state_dict(values["scaler"])
            self.log.load_state(_below("log", tensors), values["log"])
            set_random_states(_below("random", tensors))
            self.seconds = values["seconds"]
            return values["step"]
        except (InputError, SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = f"cannot resume from it: {first_line(error)}"
            raise InputError(f"{folder}: {reason}; remove it to go on from an older one") from error

    def _load_optimizer(self, tensors, values):
        state = {}
        for name, value in _below("optimizer", tensors).items():
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        if not set(state) <= {index for group in groups for index in group["params"]}:  # without a gradient there is no state
            raise ValueError("its optimizer has other parameters")
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.scheduler.load_state_dict(values["scheduler"])
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate


def check_undamaged(folder):
    """Raise an ``InputError`` if a file of the checkpoint has changed since it was written; changes nothing."""
    values, damaged = read_json(folder / STATE_VALUES), STATE_VALUES
    if isinstance(values, dict) and values.pop("sha256", None) == json_hash(values):
        written, found = values["files"], _tensor_hashes(folder)
        damaged = next((name for name in sorted(written | found) if written.get(name) != found.get(name)), None)
    if damaged:
        raise InputError(f"{folder / damaged}: missing or damaged; remove {folder} to go on from an older one or start again")


def _tensor_hashes(folder):
    return {path.name: file_hash(path) for path in sorted(folder.glob("*.safetensors")) if path.is_file()}


def _below(prefix, tensors):
    """The tensors named ``prefix.…``, without the prefix."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def random_states(device):
    """The states [processes, bytes] of the random generators that dropout uses: of the CPU and, on a GPU, of the GPU."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {kind: every_process(state.to(device)) for kind, state in states.items()}


def set_random_states(states):
    """Restore this process's part of what :func:`random_states` returned."""
    own = {kind: rows[rank()].clone() for kind, rows in states.items()}  # set_rng_state ignores a view's offset
    torch.set_rng_state(own["cpu"])
    if "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"])


def save_checkpoint(output_dir, step, limit, tokenizer, state):
    """Write ``checkpoint-<step>`` completely or not at all, then remove all but the newest ``limit``.

    All processes call this; only the main process writes.

    Returns:
        its path
    """
    output_dir = Path(output_dir)
    final = output_dir / f"checkpoint-{step}"
    temporary = output_dir / f".{final.name}{TEMPORARY}"
    states = random_states(state.device)
    if not is_main_process():
        return final
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        save_model(temporary, state.student, tokenizer, state.student_memory)
        try:
            state.save(temporary, step, states)
            shutil.copyfile(output_dir / RECORD_FILE, temporary / RECORD_FILE)
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
        remove_checkpoint(path)
