"""A cache of the frozen teacher's logits and compared hidden states over the training set.

It is filled before the first step, in batches that depend only on the data, and rounded to half precision. So a run gives
the same bits with a new cache and with an old one, whichever method and seed filled it.
"""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import torch

from fsd.models.forward import forward
from fsd.system.devices import autocast, free_ram
from fsd.system.errors import InputError
from fsd.system.files import put_in_place, read_json, write_json
from fsd.system.hashes import json_hash
from fsd.system.locks import exclusive_lock
from fsd.system.logs import progress_bar

logger = logging.getLogger(__name__)

CACHE_FORMAT = 1
BATCH_SIZE = 32  # constant, because rounding depends on it
HALF = np.dtype(np.float16)


class TeacherCache:
    """Logits [N, C] and, for each of ``layers``, the hidden states of N training examples, in float16.

    Args:
        place: "ram", or a folder. In a folder the outputs are memory-mapped and later runs reuse them. Their key is a hash
            of the teacher, the data and its length, the layers, the padding mode and the precision.
        teacher_hash: :func:`fsd.system.hashes.model_hash` of the teacher.
        dataset: :class:`fsd.glue.dataset.EncodedDataset`; :meth:`batch` returns tensors on its device.
        mask_padding: keep only an example's own tokens; otherwise all positions.
        precision: the half-precision dtype that the teacher runs in, or None for float32.

    Raises:
        InputError: the outputs do not fit, or the folder cannot be used.
    """

    def __init__(self, place, teacher, teacher_hash, dataset, layers, mask_padding, precision=None):
        self.teacher, self.dataset, self.layers = teacher, dataset, tuple(sorted(set(layers)))
        self.mask_padding, self.precision = mask_padding, precision
        lengths = dataset.lengths if mask_padding else torch.full_like(dataset.lengths, dataset.input_ids.shape[1])
        self.bounds = [0, *lengths.cumsum(0).tolist()]
        self.shapes = {"logits": (len(dataset), teacher.config.num_labels)}
        self.shapes |= {f"hidden_states_{layer}": (self.bounds[-1], teacher.config.hidden_size) for layer in self.layers}
        self.outputs = None
        self.facts = {
            "format": CACHE_FORMAT, "teacher": teacher_hash, "data": dataset.fingerprint, "layers": list(self.layers),
            "mask_padding": mask_padding, "precision": str(precision or torch.float32),
        }
        self.folder = None if place == "ram" else Path(place) / json_hash(self.facts)[:32]
        if self.folder is None:
            self._check_size(free_ram(), "--cache_teacher ram", "RAM")
        elif not self._open():
            self._check_folder(Path(place))

    @property
    def size(self):
        """Size of the outputs in bytes."""
        return sum(rows * columns * HALF.itemsize for rows, columns in self.shapes.values())

    def describe(self):
        """One line: what the cache holds, where, and its size."""
        layers = f" and hidden states {', '.join(map(str, self.layers))}" if self.layers else ""
        state = "found there" if self.outputs is not None else "to be filled"
        return f"teacher's logits{layers}, {self.size / 1e9:.3g} GB in {self.folder or 'RAM'}, {state}"

    def fill(self):
        """Compute the outputs, unless the cache has them. If several runs share a folder, one computes and the others wait."""
        if self.outputs is not None:
            return
        if self.folder is None:
            self.outputs = {name: np.empty(shape, HALF) for name, shape in self.shapes.items()}
            self._compute()
            self._as_tensors()
            return
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        try:
            with exclusive_lock(lock, on_wait=lambda: logger.info("waiting until another run has filled %s", self.folder)):
                if not self._open():
                    self._fill_folder()
        except OSError as error:
            raise InputError(f"--cache_teacher: cannot write {self.folder}: {error.strerror or error}") from error

    def _fill_folder(self):
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self.outputs = {name: _mapped(partial / f"{name}.npy", shape) for name, shape in self.shapes.items()}
            self._compute()
            for output in self.outputs.values():
                output.flush()
            write_json(partial / "cache.json", self.facts)
            shutil.rmtree(self.folder, ignore_errors=True)
            put_in_place(partial, self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        if not self._open():
            raise InputError(f"--cache_teacher: {self.folder} does not hold what was written; check the disk")

    def batch(self, indices, size):
        """The result of :func:`fsd.models.forward.forward` for the examples at ``indices`` [b], cut to ``size`` positions.

        Logits [b, C] and {layer: hidden states [b, size, d]} in float16; positions that the cache does not hold are zero.
        """
        examples = indices.tolist()
        logits = self.outputs["logits"][indices]
        hidden = {}
        for layer in self.layers:
            stored = self.outputs[f"hidden_states_{layer}"]
            rows = torch.empty(len(examples), size, stored.shape[1], dtype=torch.float16)
            for row, example in zip(rows, examples, strict=True):
                start, end = self.bounds[example], self.bounds[example + 1]
                row[: end - start] = stored[start:end]
                row[end - start :] = 0
            hidden[layer] = self.dataset.on_device(rows)
        return self.dataset.on_device(logits), hidden

    @torch.no_grad()
    def _compute(self):
        """Run the teacher once over the examples, sorted by length if that saves padding."""
        cut = self.mask_padding or not self.layers
        order = self.dataset.lengths.argsort(stable=True) if cut else torch.arange(len(self.dataset))
        with progress_bar(total=len(order), desc="caching the teacher's outputs", unit="example") as bar:
            for indices in order.split(BATCH_SIZE):
                with autocast(self.dataset.device, self.precision):
                    logits, hidden = forward(self.teacher, self.dataset.batch(indices, cut_to_longest=cut), self.layers)
                self.outputs["logits"][indices] = logits.half().cpu().numpy()
                for layer in self.layers:
                    stored, rows = self.outputs[f"hidden_states_{layer}"], hidden[layer].half().cpu().numpy()
                    for row, example in zip(rows, indices.tolist(), strict=True):
                        start, end = self.bounds[example], self.bounds[example + 1]
                        stored[start:end] = row[: end - start]
                bar.update(len(indices))

    def _open(self):
        """Map the files in the folder; False if they are not complete or do not match."""
        try:
            facts = read_json(self.folder / "cache.json")
            files = {name: self.folder / f"{name}.npy" for name in self.shapes}
            if not all(path.is_file() for path in files.values()):
                return False
            # torch wants writable arrays; mode "c" makes them writable without changing the files.
            outputs = {name: np.load(path, "c", allow_pickle=False) for name, path in files.items()}
            if facts != self.facts or any(o.shape != self.shapes[n] or o.dtype != HALF for n, o in outputs.items()):
                return False
        except Exception:  # NumPy raises all kinds of errors for a damaged header
            return False
        self.outputs = outputs
        self._as_tensors()
        return True

    def _as_tensors(self):
        self.outputs = {name: torch.from_numpy(output) for name, output in self.outputs.items()}

    def _check_folder(self, place):
        try:
            place.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(place).free
        except OSError as error:
            raise InputError(f"--cache_teacher {place}: cannot use it as a folder: {error.strerror or error}") from error
        if not os.access(place, os.W_OK):
            raise InputError(f"--cache_teacher {place}: cannot be written to; name another folder")
        self._check_size(free, f"--cache_teacher {place}", "disk space")

    def _check_size(self, free, what, kind):
        if free is not None and self.size > free:
            raise InputError(
                f"{what}: the teacher's outputs take {self.size / 1e9:.1f} GB of {kind}, {free / 1e9:.1f} GB are free; "
                "--mask_padding keeps fewer positions, and without --cache_teacher none are kept"
            )


def _mapped(path, shape):
    """A new half-precision array in a file. Its disk space is reserved, because a mapping that runs out kills the process."""
    array = np.lib.format.open_memmap(path, "w+", HALF, shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
