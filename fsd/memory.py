"""The teacher memory M_T and the student memory M_S of the global inter-feature structure, and their files."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor, nn

from fsd.files import InputError, written_whole
from fsd.seeds import stream_seed

FORMAT_VERSION = 1
TEACHER_FILE, STUDENT_FILE = "memory.safetensors", "student_memory.safetensors"


@dataclass(frozen=True)
class TeacherMemory:
    """M_T: k-means centroids of a teacher's hidden states over a training set, and what they were built from.

    ``centroids`` [K, S, d] float32; ``counts`` [K] int64, examples of each; ``layer``: index into the teacher's
    hidden_states; ``mask_padding``: whether padded positions were zeroed; ``inertia``: of the assignment whose means
    the centroids are.
    """

    centroids: Tensor
    counts: Tensor
    task: str
    teacher: str
    teacher_hash: str
    tokenizer_hash: str
    layer: int
    mask_padding: bool
    examples: int
    passes: int
    inertia: float
    seed: int

    def save(self, folder):
        """Write ``memory.safetensors`` into ``folder``, whole or not at all; returns its path."""
        path = Path(folder) / TEACHER_FILE
        k, s, d = self.centroids.shape
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("centroids", "counts")}
        metadata = {name: json.dumps(value) for name, value in (facts | {"K": k, "S": s, "d": d}).items()}
        metadata["format_version"] = str(FORMAT_VERSION)
        tensors = {"centroids": self.centroids.contiguous(), "counts": self.counts}
        with written_whole(path) as temporary:
            temporary.write_bytes(safetensors.save(tensors, metadata))  # unlike save_file tells of a full disk by OSError
        return path

    @classmethod
    def load(cls, path):
        """Read a memory from its file or the folder it lies in.

        Raises:
            InputError: it is missing, damaged, of a newer format, or no memory at all.
        """
        path = Path(path)
        path = path / TEACHER_FILE if path.is_dir() else path
        what = f"--teacher_memory_path {path}"
        if not path.is_file():
            raise InputError(f"{what}: no such file; build it with train_memory.py")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{what}: cannot read it: {error}; build it again with train_memory.py") from error
        version = metadata.get("format_version")
        if version is None or set(tensors) != {"centroids", "counts"}:
            raise InputError(f"{what}: no teacher memory; name one that train_memory.py wrote")
        if version != str(FORMAT_VERSION):
            raise InputError(f"{what}: of format {version}, but this version reads {FORMAT_VERSION}; build it again")
        problem = _problem(**tensors)
        if problem:
            raise InputError(f"{what}: {problem}; build it again with train_memory.py")
        return cls(**tensors, **cls._facts(metadata, what))

    @classmethod
    def _facts(cls, metadata, what):
        facts = {}
        for field in fields(cls):
            if field.type is Tensor:
                continue
            try:
                facts[field.name] = json.loads(metadata[field.name])
            except (KeyError, ValueError):
                facts[field.name] = None
            if type(facts[field.name]) is not field.type:
                raise InputError(f"{what}: its {field.name} is missing or damaged; build it again with train_memory.py")
        return facts

    def check(self, *, task, teacher_hash, tokenizer_hash, layer, max_seq_length, hidden_size, mask_padding):
        """Refuse a memory that was built for something else than this run.

        Raises:
            InputError: the first difference: what the memory has, what the run wants, what to do.
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
                raise InputError(f"--teacher_memory_path: {message}")


def _problem(centroids, counts):
    if centroids.dim() != 3 or len(centroids) < 2 or centroids.dtype != torch.float32:
        return f"centroids {tuple(centroids.shape)} {centroids.dtype}, not float32 [K, S, d]"
    if counts.shape != centroids.shape[:1] or counts.dtype != torch.int64 or (counts < 1).any():
        return "its counts are not a positive whole number for each centroid"
    return None if torch.isfinite(centroids).all() else "its centroids hold NaN or infinity"


class StudentMemory(nn.Module):
    """M_S: learnt centroids [K, S·d_S], drawn from N(0, 1) (released code) in the seed's own stream "student memory"."""

    def __init__(self, num_centroids, width, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(stream_seed(seed, "student memory"))
        self.centroids = nn.Parameter(torch.randn(num_centroids, width, generator=generator))

    def save(self, folder):
        """Write ``student_memory.safetensors`` into ``folder``, whole or not at all; returns its path."""
        path = Path(folder) / STUDENT_FILE
        with written_whole(path) as temporary:
            temporary.write_bytes(safetensors.save({"centroids": self.centroids.detach().cpu().contiguous()}))
        return path

    @classmethod
    def load(cls, folder):
        """Read the student memory that lies beside a student.

        Raises:
            InputError: it is missing, damaged, or holds NaN or infinity.
        """
        path = Path(folder) / STUDENT_FILE
        try:
            centroids = safetensors.load_file(path)["centroids"]
        except (SafetensorError, OSError, KeyError) as error:
            raise InputError(f"{path}: cannot read the student memory: {error}") from error
        if centroids.dim() != 2 or centroids.dtype != torch.float32 or not torch.isfinite(centroids).all():
            raise InputError(f"{path}: no float32 student memory [K, S·d], or it holds NaN or infinity")
        memory = cls(*centroids.shape, seed=0)
        memory.centroids.data.copy_(centroids)
        return memory
