"""The memories' files: what is written is what is read, and anything else is refused in one line."""

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fsd.memory.student_memory import StudentMemory
from fsd.memory.teacher_memory import TeacherMemory
from fsd.method.global_structure import global_inter_feature_terms, memory_products
from fsd.system.errors import InputError
from fsd.system.hashes import tensor_hash

FACTS = {
    "task": "RTE", "teacher": "folder", "teacher_hash": "a", "tokenizer_hash": "b", "layer": 11, "mask_padding": False,
    "examples": 8, "data_hash": "c", "file_hash": "d", "split_of": "e", "passes": 3, "inertia": 12.5, "seed": 42,
}
RUN = {
    "task": "RTE", "teacher_hash": "a", "tokenizer_hash": "b", "layer": 11, "mask_padding": False, "max_seq_length": 6,
    "hidden_size": 4,
}


@pytest.fixture
def memory():
    """K = 3, S = 6, d = 4."""
    return TeacherMemory(torch.randn(3, 6, 4), torch.tensor([5, 1, 2]), torch.tensor([0, 0, 1, 2, 0, 2, 0, 0]), **FACTS)


def test_round_trip(memory, tmp_path):
    path = memory.save(tmp_path)
    for place in (path, tmp_path):
        read = TeacherMemory.load(place)
        for name in ("centroids", "counts", "assignment"):
            assert torch.equal(getattr(read, name), getattr(memory, name))
        assert {name: getattr(read, name) for name in FACTS} == FACTS


def test_equal_memories_have_equal_bytes(memory, tmp_path):
    files = {memory.save(tmp_path / str(number)).read_bytes() for number in range(5)}
    assert len(files) == 1


@pytest.mark.parametrize(("changes", "words"), [
    ({"centroids": torch.randn(3, 24)}, "not float32"), ({"centroids": torch.randn(3, 6, 4).double()}, "not float32"),
    ({"assignment": None}, "it holds centroids, counts"), ({"examples": 9}, "not those of 9 examples"),
    ({"inertia": 0}, "its inertia is missing or damaged"), ({"centroids": np.zeros((3, 6, 4))}, "it holds assignment, counts"),
])
def test_what_could_not_be_read_is_not_saved(memory, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(memory, **changes).save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", [-1, -40, -150])
def test_a_flipped_bit_is_found(memory, tmp_path, at):
    path = memory.save(tmp_path)
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged: its content is not what was written"):
        TeacherMemory.load(path)


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
    facts = json.loads(safe_open(folder / "good" / "memory.safetensors", framework="pt").metadata()["memory"])
    tensors = {"centroids": memory.centroids, "counts": memory.counts, "assignment": memory.assignment}

    def write(name, changed_facts=(), **changed_tensors):
        values = {key: value for key, value in (tensors | changed_tensors).items() if value is not None}
        entry = facts | {"sha256": tensor_hash(values)} | dict(changed_facts)
        save_file(values, folder / name, {"memory": json.dumps({key: v for key, v in entry.items() if v is not ...})})

    save_file(tensors, folder / "foreign")
    save_file(tensors, folder / "no facts", {"memory": "[]"})
    save_file(tensors, folder / "no JSON", {"memory": "{"})
    write("newer", {"format": 99})
    write("lacking", {"layer": ...})
    write("odd fact", {"mask_padding": None})
    write("odd format", {"format": [1]})
    write("not finite", centroids=memory.centroids / 0)
    write("half", centroids=memory.centroids.half())
    write("flat", centroids=memory.centroids[0])
    write("counts", counts=torch.ones(7))
    write("empty cluster", counts=torch.tensor([8, 0, 0]))
    write("too many", counts=torch.tensor([10**12, 1, 2]))
    write("no counts", counts=None)
    write("another assignment", assignment=torch.zeros(8, dtype=torch.int64))
    write("negative assignment", assignment=memory.assignment - 1)
    write("assignment of another kind", assignment=torch.zeros(8))
    return [path for path in folder.iterdir() if path.is_file()] + [folder / "missing", folder]


def test_anything_else_is_refused(memory, tmp_path):
    paths = damaged_files(tmp_path, memory)
    assert len(paths) == 22
    for path in paths:
        with pytest.raises(InputError, match="--teacher_memory_path") as error:
            TeacherMemory.load(path)
        assert "\n" not in str(error.value)


def test_student_memory_has_its_own_stream_and_file(tmp_path):
    torch.manual_seed(0)
    first = StudentMemory(3, 2, 4, seed=42)
    torch.rand(5)
    assert first.centroids.shape == (3, 2, 4)
    assert torch.equal(first.centroids, StudentMemory(3, 2, 4, seed=42).centroids)
    assert not torch.equal(first.centroids, StudentMemory(3, 2, 4, seed=43).centroids)
    assert torch.equal(load_file(first.save(tmp_path))["centroids"], first.centroids)


def test_student_memory_starts_as_standard_normal():
    start = StudentMemory(100, 50, 10, seed=1).centroids
    # 50,000 draws: five standard errors of their mean and of their deviation
    assert abs(start.mean().item()) < 5 / 50000**0.5 and abs(start.std().item() - 1) < 5 / 100000**0.5


def test_a_gradient_can_be_dropped_before_there_is_one():
    student, gradients = StudentMemory(3, 2, 4, seed=1), []
    teacher, features = memory_products(torch.randn(3, 2, 4)), torch.randn(5, 2, 4)
    for _ in range(2):
        student.drop_gradient()
        terms = global_inter_feature_terms(features, features, memory_products(student.centroids, student.spare), teacher)
        sum(terms).backward()
        gradients.append(student.centroids.grad.clone())
    assert gradients[0].abs().sum() > 0 and torch.equal(*gradients)
