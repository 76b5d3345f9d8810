"""The memories' files: what is written is what is read, and anything else is refused in one line."""

import dataclasses
import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fsd.files import InputError
from fsd.memory import StudentMemory, TeacherMemory

FACTS = {
    "task": "RTE", "teacher": "folder", "teacher_hash": "a", "tokenizer_hash": "b", "layer": 11, "mask_padding": False,
    "examples": 2490, "passes": 3, "inertia": 12.5, "seed": 42,
}
RUN = {
    "task": "RTE", "teacher_hash": "a", "tokenizer_hash": "b", "layer": 11, "mask_padding": False, "max_seq_length": 6,
    "hidden_size": 4,
}


@pytest.fixture
def memory():
    """K = 3, S = 6, d = 4."""
    return TeacherMemory(torch.randn(3, 6, 4), torch.tensor([5, 1, 2]), **FACTS)


def test_round_trip(memory, tmp_path):
    path = memory.save(tmp_path)
    for place in (path, tmp_path):
        read = TeacherMemory.load(place)
        assert torch.equal(read.centroids, memory.centroids) and torch.equal(read.counts, memory.counts)
        assert {name: getattr(read, name) for name in FACTS} == FACTS


def test_metadata_tells_the_sizes(memory, tmp_path):
    with safe_open(memory.save(tmp_path), framework="pt") as file:
        metadata = file.metadata()
    assert [json.loads(metadata[name]) for name in ("K", "S", "d")] == [3, 6, 4]


def test_a_memory_that_fits(memory):
    assert memory.check(**RUN) is None


def test_a_memory_that_cannot_be_written_leaves_the_old_one(memory, tmp_path, monkeypatch):
    memory.save(tmp_path)

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    other = dataclasses.replace(memory, centroids=memory.centroids + 1)
    with pytest.raises(InputError, match="No space left"):
        other.save(tmp_path)
    assert torch.equal(TeacherMemory.load(tmp_path).centroids, memory.centroids)
    assert [path.name for path in tmp_path.iterdir()] == ["memory.safetensors"]


@pytest.mark.parametrize("difference, expected", [
    ({"task": "QNLI"}, "RTE"), ({"teacher_hash": "x"}, "another teacher"), ({"tokenizer_hash": "x"}, "tokenizer"),
    ({"layer": 5}, "hidden states 11"), ({"mask_padding": True}, "--mask_padding"),
    ({"max_seq_length": 8}, "--max_seq_length 6"), ({"hidden_size": 5}, "width 4"),
])
def test_each_mismatch_is_named(memory, difference, expected):
    with pytest.raises(InputError, match=expected):
        memory.check(**RUN | difference)


def damaged_files(folder, memory):
    """(what is wrong, path)"""
    good = memory.save(folder / "good").read_bytes()
    (folder / "truncated").write_bytes(good[:-10])
    (folder / "text").write_text("no memory")
    (folder / "empty").write_bytes(b"")
    metadata = safe_open(folder / "good" / "memory.safetensors", framework="pt").metadata()
    tensors = {"centroids": memory.centroids, "counts": memory.counts}
    save_file(tensors, folder / "foreign")
    save_file(tensors, folder / "newer", metadata | {"format_version": "99"})
    save_file(tensors, folder / "lacking", {name: value for name, value in metadata.items() if name != "layer"})
    save_file(tensors | {"centroids": memory.centroids / 0}, folder / "not finite", metadata)
    save_file(tensors | {"centroids": memory.centroids.half()}, folder / "half", metadata)
    save_file(tensors | {"centroids": memory.centroids[0]}, folder / "flat", metadata)
    save_file(tensors | {"counts": torch.ones(7)}, folder / "counts", metadata)
    save_file(tensors | {"counts": torch.tensor([8, 0, 1])}, folder / "empty cluster", metadata)
    save_file({"centroids": memory.centroids}, folder / "no counts", metadata)
    save_file(tensors, folder / "odd fact", metadata | {"mask_padding": "null"})
    return [path for path in folder.iterdir() if path.is_file()] + [folder / "missing", folder]


def test_anything_else_is_refused(memory, tmp_path):
    paths = damaged_files(tmp_path, memory)
    assert len(paths) == 15
    for path in paths:
        with pytest.raises(InputError, match="--teacher_memory_path") as error:
            TeacherMemory.load(path)
        assert "\n" not in str(error.value)


def test_student_memory_has_its_own_stream_and_file(tmp_path):
    torch.manual_seed(0)
    first = StudentMemory(3, 8, seed=42)
    torch.rand(5)
    assert torch.equal(first.centroids, StudentMemory(3, 8, seed=42).centroids)
    assert not torch.equal(first.centroids, StudentMemory(3, 8, seed=43).centroids)
    first.save(tmp_path)
    assert torch.equal(StudentMemory.load(tmp_path).centroids, first.centroids)
    with pytest.raises(InputError, match="student memory"):
        StudentMemory.load(tmp_path / "nowhere")


def test_student_memory_starts_as_standard_normal():
    start = StudentMemory(100, 500, seed=1).centroids
    # 50,000 draws: five standard errors of their mean and of their deviation
    assert abs(start.mean().item()) < 5 / 50000**0.5 and abs(start.std().item() - 1) < 5 / 100000**0.5
