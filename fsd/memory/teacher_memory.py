"""The teacher memory M_T and its file."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from fsd.system.errors import InputError
from fsd.system.files import written_whole
from fsd.system.hashes import tensor_hash

FORMAT_VERSION = 2
TEACHER_FILE = "memory.safetensors"
FLAG, REBUILD = "--teacher_memory_path", "build it again with train_memory.py"


@dataclass(frozen=True, eq=False)
class TeacherMemory:
    """M_T: k-means centroids of a teacher's hidden states on a training set, and a record of how they were built.

    Attributes:
        centroids: [K, S, d] float32.
        counts: [K] int64, number of examples of each centroid.
        assignment: [N] int64, the centroid of each training example.
        task, teacher: their names, for messages.
        seed: of the clustering.
        teacher_hash, tokenizer_hash: identify the inputs.
        data_hash, file_hash, split_of: identify the training data, as :class:`fsd.glue.origin.DataOrigin` does.
        layer: index into the teacher's ``hidden_states``.
        mask_padding: whether padded positions were set to zero.
        examples: N.
        passes: number of k-means passes.
        inertia: sum of squared distances between the examples and their centroids.
    """

    centroids: Tensor
    counts: Tensor
    assignment: Tensor
    task: str
    teacher: str
    teacher_hash: str
    tokenizer_hash: str
    data_hash: str
    file_hash: str
    split_of: str
    layer: int
    mask_padding: bool
    examples: int
    passes: int
    inertia: float
    seed: int

    def save(self, folder):
        """Write ``memory.safetensors`` into ``folder`` and return its path. Equal memories give equal bytes.

        The file appears only when it is complete.

        Raises:
            ValueError: the content is not what the attributes say, so that :meth:`load` would refuse the file.
            InputError: the file cannot be written.
        """
        path = Path(folder) / TEACHER_FILE
        tensors = {name: value.contiguous() for name, value in vars(self).items() if isinstance(value, Tensor)}
        facts = {name: value for name, value in vars(self).items() if name in FACTS}
        # One entry, because safetensors writes several in random order.
        facts |= {"format": FORMAT_VERSION, "sha256": tensor_hash(tensors)}
        if problem := _problem(facts, tensors):
            raise ValueError(f"this teacher memory cannot be saved: {problem}")
        with written_whole(path) as temporary:  # save, not save_file: a full disk then raises OSError
            temporary.write_bytes(safetensors.save(tensors, {"memory": json.dumps(facts)}))
        return path

    @classmethod
    def load(cls, path):
        """Read a memory from its file or the folder that contains it.

        Raises:
            InputError: the file is missing, damaged, of another format, or not a teacher memory.
        """
        path = Path(path)
        path = path / TEACHER_FILE if path.is_dir() else path
        what = f"{FLAG} {path}"
        if not path.is_file():
            raise InputError(f"{what}: no such file; build it with train_memory.py")
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get("memory", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            raise InputError(f"{what}: cannot read it: {error}; {REBUILD}") from error
        if not isinstance(facts, dict) or "format" not in facts:
            raise InputError(f"{what}: not a teacher memory; name one that train_memory.py wrote")
        if facts["format"] != FORMAT_VERSION:
            raise InputError(f"{what}: it has format {facts['format']}, this version reads {FORMAT_VERSION}; {REBUILD}")
        if problem := _problem(facts, tensors):
            raise InputError(f"{what}: {problem}; {REBUILD}")
        return cls(**tensors, **{name: facts[name] for name in FACTS})

    def check(self, *, task, teacher_hash, tokenizer_hash, layer, max_seq_length, hidden_size, mask_padding):
        """Check that the memory was built for this run.

        Raises:
            InputError: the memory differs; states the first difference and what to do.
        """
        length, width = self.centroids.shape[1:]
        rebuild = "build one for this run with train_memory.py"
        modes = {True: "with --mask_padding", False: "without --mask_padding"}
        differences = (
            (self.task != task, f"it was built on {self.task}, this run is on {task}; {rebuild}"),
            (self.tokenizer_hash != tokenizer_hash, f"it was built with another tokenizer or casing; {rebuild}"),
            (width != hidden_size, f"its features have width {width}, the teacher's {hidden_size}; {rebuild}"),
            (length != max_seq_length, f"its length is {length}: give --max_seq_length {length}, or {rebuild}"),
            (self.mask_padding != mask_padding,
             f"it was built {modes[self.mask_padding]}, this run is {modes[mask_padding]}; train alike, or {rebuild}"),
            (self.layer != layer, f"it holds hidden states {self.layer}, this run compares {layer}; {rebuild}"),
            (self.teacher_hash != teacher_hash, f"it was built from another teacher ({self.teacher}); {rebuild}"),
        )
        for differs, message in differences:
            if differs:
                raise InputError(f"{FLAG}: {message}")

    def check_rows(self, rows):
        """Check that the clusters are those of this run's training examples, whose hash is ``rows``, for a start from them.

        Raises:
            InputError: they are of other examples.
        """
        if self.data_hash != rows:
            raise InputError(f"{FLAG}: --student_memory_init centroids needs the cluster of each training example, and this "
                             "memory was built on other rows than this run's training set; build one on these")


FACTS = {field.name: field.type for field in fields(TeacherMemory) if field.type in (str, int, bool, float)}


def _problem(facts, tensors):
    """A sentence that says what is wrong with the content of a memory file, or None."""
    if set(tensors) != {"centroids", "counts", "assignment"}:
        return f"it holds {', '.join(sorted(tensors)) or 'nothing'}"
    for name, kind in FACTS.items():
        if type(facts.get(name)) is not kind:
            return f"its {name} is missing or damaged"
    centroids, counts, assignment = tensors["centroids"], tensors["counts"], tensors["assignment"]
    if facts.get("sha256") != tensor_hash(tensors):
        return "it is damaged: its content is not what was written"
    if centroids.dim() != 3 or len(centroids) < 2 or centroids.dtype != torch.float32:
        return f"centroids {tuple(centroids.shape)} {centroids.dtype}, not float32 [K, S, d]"
    if counts.shape != centroids.shape[:1] or counts.dtype != torch.int64 or (counts < 1).any():
        return "its counts are not a positive whole number for each centroid"
    if counts.sum() != facts["examples"]:
        return f"its counts are not those of {facts['examples']} examples"
    is_valid = assignment.dtype == torch.int64 and assignment.dim() == 1 and len(assignment) and assignment.min() >= 0
    if not is_valid or not torch.equal(assignment.bincount(minlength=len(counts)), counts):
        return "its assignment does not fit its counts"
    return None if torch.isfinite(centroids).all() else "its centroids hold NaN or infinity"
