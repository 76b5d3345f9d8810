"""Features, masks and float64 references in NumPy that the tests of the losses share.

The references work example by example with explicit centring matrices and differences, so they share nothing with the
Gram products that they check. Tolerances unless said otherwise: float64 to 1e-10 (losses of order 1 to 100, up to a few
hundred additions at 1e-16), float32 relative 1e-4 (the same at 6e-8, and a logarithm or a square root of the result).
"""

import math

import numpy as np
import pytest
import torch

from fsd.method import global_structure
from fsd.method.global_structure import global_inter_feature_terms, memory_products

FLOOR = 1e-8
NO_CKA = -math.log(FLOOR)  # 18.42, the term where CKA is 0
B, S, D_STUDENT, D_TEACHER, K = 5, 6, 3, 4, 7

MASKS = {
    "right-padded": [[1] * n + [0] * (S - n) for n in (2, 3, 4, 4, 2)],
    "left-padded": [[0] * (S - n) + [1] * n for n in (2, 6, 4, 5, 3)],
    "one token and none": [[1] * n + [0] * (S - n) for n in (6, 1, 3, 0, 4)],
}
MASKS = {name: torch.tensor(mask) for name, mask in MASKS.items()}
ALL_MASKS = {"no mask": None, **MASKS}
CONSTANT = {
    "filled with 0.1": torch.full((B, S, D_STUDENT), 0.1),
    "zeros": torch.zeros(B, S, D_STUDENT),
    "one token repeated": torch.linspace(-1, 1, D_STUDENT).repeat(B, S, 1),
}
masks = pytest.mark.parametrize("mask", ALL_MASKS.values(), ids=ALL_MASKS.keys())
constants = pytest.mark.parametrize("constant", CONSTANT.values(), ids=CONSTANT.keys())
both_precisions = pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def hidden_states(batch=B, tokens=S, seed=0):
    """Student [B, S, 3] and teacher [B, S, 4] with some structure in common."""
    student = normal(batch, tokens, D_STUDENT, seed=seed)
    return student, student @ normal(D_STUDENT, D_TEACHER, seed=seed + 1) + normal(batch, tokens, D_TEACHER, seed=seed + 2)


def memories(seed=10):
    """Student memory [K, S·3] and teacher memory [K, S·4]."""
    return normal(K, S * D_STUDENT, seed=seed), normal(K, S * D_TEACHER, seed=seed + 1)


def leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def assert_no_structure(loss, *arguments):
    student = leaf(arguments[0].float())
    value = loss(student, arguments[1].float(), *arguments[2:])
    value.backward()  # accepted, though nothing depends on the student
    assert value.item() == 0 and value.dtype == torch.float32
    assert torch.equal(student.grad, torch.zeros_like(student))


def reference_cka(x, y):
    h = np.eye(len(x)) - np.ones((len(x), len(x))) / len(x)
    k, l = h @ x @ x.T @ h, h @ y @ y.T @ h  # noqa: E741
    return np.sum(k * l) / np.sqrt(np.sum(k * k) * np.sum(l * l))


def reference_intra(student, teacher, mask=None, released=False):
    values = []
    for b in range(len(student)):
        kept = np.full(student.shape[1], True) if mask is None else mask[b].numpy() != 0
        if kept.sum() >= 2:
            values.append(reference_cka(teacher[b].double().numpy()[kept], student[b].double().numpy()[kept]))
    if released:
        return -np.log(np.mean(values) + FLOOR)
    return np.mean([-np.log(value + FLOOR) for value in values])


def reference_flat(hidden, mask=None):
    """[B, S·d] in float64 with masked positions set to zero one by one."""
    hidden = hidden.detach().double().numpy().copy()
    for b, s in np.ndindex(hidden.shape[:2]):
        if mask is not None and mask[b, s] == 0:
            hidden[b, s] = 0
    return np.stack([example.ravel() for example in hidden])


def reference_local(student, teacher, mask=None):
    return -np.log(reference_cka(reference_flat(teacher, mask), reference_flat(student, mask)) + FLOOR)


def reference_relations(features, memory):
    """Distances and cosines [B, K], from differences and from normalised vectors."""
    distances, cosines = np.zeros((len(features), len(memory))), np.zeros((len(features), len(memory)))
    for b, k in np.ndindex(distances.shape):
        distances[b, k] = np.sqrt(np.sum((features[b] - memory[k]) ** 2))
        norms = np.sqrt(np.sum(features[b] ** 2)), np.sqrt(np.sum(memory[k] ** 2))
        cosines[b, k] = 0 if 0 in norms else np.sum((features[b] / norms[0]) * (memory[k] / norms[1]))
    return distances, cosines


def reference_global(student, teacher, student_memory, teacher_memory):
    """The three parts from flat float64 arrays of full width."""
    student_distances, student_cosines = reference_relations(student, student_memory)
    teacher_distances, teacher_cosines = reference_relations(teacher, teacher_memory)
    cka = reference_cka(student_memory, teacher_memory)
    return (
        np.mean((student_distances - teacher_distances) ** 2),
        np.mean((student_cosines - teacher_cosines) ** 2),
        -np.log(cka + FLOOR),
    )


def global_terms(student, teacher, student_memory, teacher_memory):
    return global_inter_feature_terms(student, teacher, memory_products(student_memory), memory_products(teacher_memory))


def take_two_chunks(monkeypatch):
    """Ten columns and four rows at once, so that 18 features and 7 centroids take two chunks."""
    monkeypatch.setattr(global_structure, "CPU_COLUMNS", 10)
    monkeypatch.setattr(global_structure, "GRAM_ROWS", 4)
