"""The teacher memory M_T and the student memory M_S of the global inter-feature structure, and their files."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
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
        with written_whole(path) as temporary:
            save_file({"centroids": self.centroids.contiguous(), "counts": self.counts}, temporary, metadata)
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
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise InputError(f"{what}: no memory of this version; build it with train_memory.py")
        names = [f.name for f in fields(cls) if f.name not in ("centroids", "counts")]
        try:
            facts = {name: json.loads(metadata[name]) for name in names}
            centroids, counts = tensors["centroids"], tensors["counts"]
        except (KeyError, ValueError) as error:
            raise InputError(f"{what}: it lacks {error}; build it again with train_memory.py") from error
        right_shape = centroids.dim() == 3 and len(centroids) >= 2 and counts.shape == centroids.shape[:1]
        if not right_shape or centroids.dtype != torch.float32:
            shape = f"{tuple(centroids.shape)} {centroids.dtype}"
            raise InputError(f"{what}: centroids {shape}, not float32 [K, S, d]; build it again with train_memory.py")
        if not torch.isfinite(centroids).all():
            raise InputError(f"{what}: its centroids hold NaN or infinity; build it again with train_memory.py")
        return cls(centroids, counts, **facts)

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
            save_file({"centroids": self.centroids.detach().cpu().contiguous()}, temporary)
        return path

    @classmethod
    def load(cls, folder):
        """Read the student memory that lies beside a student.

        Raises:
            InputError: it is missing, damaged, or holds NaN or infinity.
        """
        path = Path(folder) / STUDENT_FILE
        try:
            centroids = load_file(path)["centroids"]
        except (SafetensorError, OSError, KeyError) as error:
            raise InputError(f"{path}: cannot read the student memory: {error}") from error
        if centroids.dim() != 2 or not torch.isfinite(centroids).all():
            raise InputError(f"{path}: no student memory [K, S·d], or it holds NaN or infinity")
        memory = cls(*centroids.shape, seed=0)
        memory.centroids.data.copy_(centroids)
        return memory
