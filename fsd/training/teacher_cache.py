"""A cache of the frozen teacher's logits and compared hidden states over the training set.

It is filled before the first step, in batches that depend only on the data and the padding mode, and rounded to half
precision. So an entry has the same bits whichever run made it, and a run gives the same bits with a new or an old cache.
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
from fsd.system.hashes import config_hash, file_hash, json_hash
from fsd.system.locks import exclusive_lock
from fsd.system.logs import progress_bar

logger = logging.getLogger(__name__)

CACHE_FORMAT = 2
BATCH_SIZE = 32  # constant, because rounding depends on it
HALF = np.dtype(np.float16)


class TeacherCache:
    """Logits [N, C] and, for each of ``layers``, the hidden states of N training examples, in float16.

    Args:
        place: "ram", or a folder. In a folder the outputs are memory-mapped and later runs reuse them. The logits and each
            layer are entries of their own in one folder for each teacher, data and their length, padding mode and
            precision. Its ``cache.json`` keeps the entries' checksums.
        teacher_hash: :func:`fsd.system.hashes.model_hash` of the teacher.
        dataset: :class:`fsd.glue.dataset.EncodedDataset`; :meth:`batch` returns tensors on its device.
        mask_padding: keep only an example's own tokens; otherwise all positions.
        precision: the half-precision dtype that the teacher runs in, or None for float32.

    Attributes:
        outputs: entry's name → tensor, for the entries that are there.

    Raises:
        InputError: the outputs do not fit, or the folder cannot be used.
    """

    def __init__(self, place, teacher, teacher_hash, dataset, layers, mask_padding, precision=None):
        self.teacher, self.dataset, self.layers = teacher, dataset, tuple(sorted(set(layers)))
        self.mask_padding, self.precision = mask_padding, precision
        lengths = dataset.lengths if mask_padding else torch.full_like(dataset.lengths, dataset.input_ids.shape[1])
        self.bounds = [0, *lengths.cumsum(0).tolist()]
        self.shapes = {"logits": (len(dataset), teacher.config.num_labels)}
        self.shapes |= {_entry(layer): (self.bounds[-1], teacher.config.hidden_size) for layer in self.layers}
        self.outputs = {}
        self.facts = {
            "format": CACHE_FORMAT, "teacher": teacher_hash, "config": config_hash(teacher.config),
            "data": dataset.fingerprint, "mask_padding": mask_padding, "precision": str(precision or torch.float32),
        }
        self.folder = None if place == "ram" else Path(place) / json_hash(self.facts)[:32]
        if self.folder is None:
            self._check_size(free_ram(), "--cache_teacher ram", "RAM")
        else:
            self._open()
            if self.missing:
                self._check_folder(Path(place))

    @property
    def missing(self):
        """Names of the entries that are not there."""
        return [name for name in self.shapes if name not in self.outputs]

    @property
    def size(self):
        """Size of all entries in bytes."""
        return self._size(self.shapes)

    def _size(self, names):
        return sum(rows * columns * HALF.itemsize for rows, columns in map(self.shapes.get, names))

    def describe(self):
        """One line: what the cache holds, where, its size, and what is missing."""
        layers = f" and hidden states {', '.join(map(str, self.layers))}" if self.layers else ""
        missing = ", ".join(self.missing) if self.outputs else "all"
        state = f"to be filled: {missing}" if self.missing else "found there"
        return f"teacher's logits{layers}, {self.size / 1e9:.3g} GB in {self.folder or 'RAM'}, {state}"

    def fill(self):
        """Compute the missing entries. If several runs share a folder, one computes and the others wait."""
        if not self.missing:
            return
        if self.folder is None:
            arrays = {name: np.empty(shape, HALF) for name, shape in self.shapes.items()}
            self._compute(arrays)
            self.outputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
            return
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        try:
            with exclusive_lock(lock, on_wait=lambda: logger.info("waiting until another run has filled %s", self.folder)):
                self._open()
                if self.missing:
                    self._fill_folder()
        except OSError as error:
            raise InputError(f"--cache_teacher: cannot write {self.folder}: {error.strerror or error}") from error

    def _fill_folder(self):
        names, partial = self.missing, self.folder / ".partial"
        if damaged := [name for name in names if os.path.lexists(self._path(name))]:
            logger.warning("%s: damaged or incomplete: %s; made again", self.folder, ", ".join(damaged))
        for path in (self.folder / "cache.json", *map(self._path, names)):
            if path.is_dir():
                raise InputError(f"--cache_teacher: {path} is a folder; move it away")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            arrays = {name: _mapped(partial / f"{name}.npy", self.shapes[name]) for name in names}
            self._compute(arrays)
            for array in arrays.values():
                array.flush()
            sums = self._checksums() | {name: file_hash(partial / f"{name}.npy") for name in names}
            for name in names:
                put_in_place(partial / f"{name}.npy", self._path(name))
            write_json(self.folder / "cache.json", self.facts | {"sha256": sums})
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._open()
        if self.missing:
            raise InputError(f"--cache_teacher: {self.folder} does not hold what was written; check the disk")

    def batch(self, indices, size, layers):
        """The result of :func:`fsd.models.forward.forward` for the examples at ``indices`` [b], cut to ``size`` positions.

        Logits [b, C] and {layer: hidden states [b, size, d]} in float16; positions that the cache does not hold are zero.
        """
        examples = indices.tolist()
        logits = self.outputs["logits"][indices]
        hidden = {}
        for layer in layers:
            stored = self.outputs[_entry(layer)]
            rows = torch.empty(len(examples), size, stored.shape[1], dtype=torch.float16)
            for row, example in zip(rows, examples, strict=True):
                start, end = self.bounds[example], self.bounds[example + 1]
                row[: end - start] = stored[start:end]
                row[end - start :] = 0
            hidden[layer] = self.dataset.on_device(rows)
        return self.dataset.on_device(logits), hidden

    @torch.no_grad()
    def _compute(self, arrays):
        """Run the teacher once over the examples and store its outputs in ``arrays``, by the entries' names.

        With ``mask_padding`` the examples run sorted by length, which saves padding; otherwise in order, at full length.
        """
        cut, layers = self.mask_padding, [layer for layer in self.layers if _entry(layer) in arrays]
        order = self.dataset.lengths.argsort(stable=True) if cut else torch.arange(len(self.dataset))
        with progress_bar(total=len(order), desc="caching the teacher's outputs", unit="example") as bar:
            for indices in order.split(BATCH_SIZE):
                with autocast(self.dataset.device, self.precision):
                    logits, hidden = forward(self.teacher, self.dataset.batch(indices, cut_to_longest=cut), layers)
                if "logits" in arrays:
                    arrays["logits"][indices] = _in_half(logits)
                for layer in layers:
                    stored, rows = arrays[_entry(layer)], _in_half(hidden[layer])
                    for row, example in zip(rows, indices.tolist(), strict=True):
                        start, end = self.bounds[example], self.bounds[example + 1]
                        stored[start:end] = row[: end - start]
                bar.update(len(indices))

    def _path(self, name):
        return self.folder / f"{name}.npy"

    def _checksums(self):
        """Entry's name → SHA-256 of its file, from ``cache.json``; empty if that is missing or damaged."""
        try:
            written = read_json(self.folder / "cache.json")
        except InputError:
            return {}
        sums = written.pop("sha256", None) if isinstance(written, dict) else None
        return sums if written == self.facts and isinstance(sums, dict) else {}

    def _open(self):
        """Map the files of the missing entries that are complete and match their checksums."""
        sums = self._checksums()
        for name in self.missing:
            path = self._path(name)
            try:
                if not path.is_file() or file_hash(path) != sums.get(name):
                    continue
                # torch wants writable arrays; mode "c" makes them writable without changing the files.
                array = np.load(path, "c", allow_pickle=False)
            except Exception:  # NumPy raises all kinds of errors for a damaged header
                continue
            if array.shape == self.shapes[name] and array.dtype == HALF:
                self.outputs[name] = torch.from_numpy(array)

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
        size = self._size(self.missing)
        if free is not None and size > free:
            raise InputError(
                f"{what}: the teacher's outputs take {size / 1e9:.1f} GB of {kind}, {free / 1e9:.1f} GB are free; "
                "--mask_padding keeps fewer positions, and without --cache_teacher none are kept"
            )


def _entry(layer):
    return f"hidden_states_{layer}"


def _in_half(values):
    """Outputs of the teacher as an array in half precision."""
    rows = values.half().cpu().numpy()
    if not np.isfinite(rows).all():
        raise InputError("--cache_teacher: an output of the teacher is not finite in half precision; leave --cache_teacher out")
    return rows


def _mapped(path, shape):
    """A new half-precision array in a file. Its disk space is reserved, because a mapping that runs out kills the process."""
    array = np.lib.format.open_memmap(path, "w+", HALF, shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
