"""The global inter-feature loss at its edges: large offsets, zero distances, constant memories, single centroids."""

import math

import numpy as np
import pytest
import torch
from references import (
    D_TEACHER,
    NO_CKA,
    B,
    S,
    global_terms,
    hidden_states,
    leaf,
    memories,
    normal,
    reference_flat,
    reference_global,
    reference_intra,
    reference_local,
    reference_relations,
    take_two_chunks,
)

from fsd.method.global_structure import feature_products, memory_products
from fsd.method.losses import intra_feature_loss, local_inter_feature_loss


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    take_two_chunks(monkeypatch)


def test_large_common_offset_in_float32():
    """Offsets of 1000 under distances of some 6: squared norms of 1e7 whose difference is 40.

    Without a shift, float32 would lose those 40 in rounding of about 1 to 4.
    """
    hidden = [(side + 1e3).float() for side in hidden_states()]
    pair = [(memory + 1e3).float() for memory in memories()]
    terms = global_terms(*hidden, *pair)
    # the reference starts from the same rounded numbers, so what is compared is the arithmetic
    expected = reference_global(*(reference_flat(side) for side in hidden), *(memory.double().numpy() for memory in pair))
    assert terms.distance.item() == pytest.approx(expected[0], rel=1e-4)
    assert terms.memory_cka.item() == pytest.approx(expected[2], rel=1e-4)
    # Cosines lie within 1e-6 of 1, where float32 has steps of 6e-8: each is right to a few steps, so the mean of
    # squares of their differences is right to (a few 1e-7)².
    assert abs(terms.cosine.item() - expected[1]) < 1e-12
    with_mean = [(side + 1e3).float() for side in (hidden_states()[0], normal(B, S, D_TEACHER, seed=7))]
    assert local_inter_feature_loss(*with_mean).item() == pytest.approx(reference_local(*with_mean), rel=1e-4)
    assert intra_feature_loss(*with_mean).item() == pytest.approx(reference_intra(*with_mean), rel=1e-4)


def test_offset_features_beside_a_memory_of_noise():
    """The start of training: a memory of N(0, 1) far from features that all lie on one side."""
    hidden = [(side + 1e3).float() for side in hidden_states()]
    pair = [memory.float() for memory in memories()]
    expected = reference_global(*(reference_flat(side) for side in hidden), *(memory.double().numpy() for memory in pair))
    for value, reference in zip(global_terms(*hidden, *pair), expected, strict=True):
        assert value.item() == pytest.approx(reference, rel=1e-4)


def test_small_centroids_beside_a_large_one_keep_their_digits():
    memory = torch.cat([torch.full((1, 64), 1e3), 1e-3 * normal(2, 64).float()]).requires_grad_()
    norms = feature_products(torch.zeros(1, 64), memory_products(memory)).norms
    (gradient,) = torch.autograd.grad(norms.sum(), memory)
    exact = memory.detach().double()
    torch.testing.assert_close(norms.double(), exact.norm(dim=1), rtol=1e-6, atol=0)  # a few roundings of 6e-8
    torch.testing.assert_close(gradient.double(), exact / exact.norm(dim=1, keepdim=True), rtol=1e-6, atol=0)


def test_zero_memory_rows():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    student_memory[[1, 4]] = 0
    teacher_memory[[4, 5]] = 0
    expected = reference_global(reference_flat(student), reference_flat(teacher), student_memory.numpy(), teacher_memory.numpy())
    hidden, memory = leaf(student), leaf(student_memory)
    terms = global_terms(hidden, teacher, memory, teacher_memory)
    for value, reference in zip(terms, expected, strict=True):
        assert value.item() == pytest.approx(reference, rel=1e-10)
        gradients = torch.autograd.grad(value, (hidden, memory), retain_graph=True, allow_unused=True)
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
    (cosine_gradient,) = torch.autograd.grad(terms.cosine, memory)
    assert (cosine_gradient[[1, 4]] == 0).all() and (cosine_gradient[0] != 0).any()


@pytest.mark.parametrize("value", [0.0, 0.1], ids=["all zero", "all 0.1"])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_constant_memory(side, value):
    hidden = leaf(hidden_states()[0].float())
    student_memory, teacher_memory = (memory.float() for memory in memories())
    if side == "student":
        student_memory.fill_(value)
    else:
        teacher_memory.fill_(value)
    memory = leaf(student_memory)
    teacher = hidden_states()[1].float()
    terms = global_terms(hidden, teacher, memory, teacher_memory)
    expected = reference_relations(reference_flat(hidden), memory.detach().double().numpy())
    of_teacher = reference_relations(reference_flat(teacher), teacher_memory.double().numpy())
    for term, mine, theirs in zip(terms[:2], expected, of_teacher, strict=True):
        assert term.item() == pytest.approx(np.mean((mine - theirs) ** 2), rel=1e-4)
    assert terms.memory_cka.item() == pytest.approx(NO_CKA, rel=1e-6)
    (gradient,) = torch.autograd.grad(terms.memory_cka, memory, retain_graph=True)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    sum(terms).backward()
    assert torch.isfinite(hidden.grad).all() and torch.isfinite(memory.grad).all()
    assert (hidden.grad != 0).any() and (memory.grad != 0).any()


def test_features_equal_to_a_centroid():
    """The square root has no derivative at distance 0: none is taken, and the other distances keep theirs."""
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    student_memory[2] = student[1].flatten()
    student_memory[0] = student[0].flatten() + 1e3  # moves the mean far away, so that squares are large where they cancel
    teacher_memory[3] = teacher[4].flatten()
    for dtype in (torch.float64, torch.float32):
        hidden, memory = leaf(student.to(dtype)), leaf(student_memory.to(dtype))
        terms = global_terms(hidden, teacher.to(dtype), memory, teacher_memory.to(dtype))
        gradients = torch.autograd.grad(terms.distance, (hidden, memory))
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        # |∂D| is 1 for every pair, so a mean of (difference)² moves by at most twice the root of itself; 10 % for rounding
        assert gradients[0].flatten(1).norm().item() < 2.2 * terms.distance.item() ** 0.5
    expected = reference_global(reference_flat(student), reference_flat(teacher), student_memory.numpy(), teacher_memory.numpy())
    # squares near 4e5 in float32 leave up to 0.1 of a vanished one: a distance of 0.3 among 35, the large ones near 4000
    assert terms.distance.item() == pytest.approx(expected[0], rel=1e-3)


def test_exact_zero_distance_has_zero_gradient():
    features = torch.eye(2, 4)
    hidden, memory = leaf(features), leaf(features)  # every product is exact here
    terms = global_terms(hidden, torch.zeros(2, 4), memory, torch.ones(2, 4))
    # D_S is √2 off the diagonal and 0 on it, D_T is 2 throughout
    assert terms.distance.item() == pytest.approx(((2**0.5 - 2) ** 2 + 4) / 2, rel=1e-6)
    (gradient,) = torch.autograd.grad(terms.distance, hidden)
    # ∂/∂h of (D − 2)² / 4 at (h, m) = (e0, e1) is (D − 2)/2 · (h − m)/D
    expected = (2**0.5 - 2) / 2 / 2**0.5
    torch.testing.assert_close(gradient, expected * torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0]]))


def test_example_with_no_token_beside_a_memory():
    (student, teacher), pair = hidden_states(), memories()
    student, teacher = student.clone(), teacher.clone()
    student[3] = teacher[3] = 0
    hidden = leaf(student)
    terms = global_terms(hidden, teacher, *pair)
    expected = reference_global(reference_flat(student), reference_flat(teacher), *(memory.numpy() for memory in pair))
    assert [term.item() for term in terms] == pytest.approx(expected, rel=1e-10)
    (gradient,) = torch.autograd.grad(terms.cosine, hidden, retain_graph=True)
    assert torch.isfinite(gradient).all() and (gradient[3] == 0).all() and (gradient[0] != 0).any()
    (gradient,) = torch.autograd.grad(terms.distance, hidden)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("batch", [1, 3])
def test_global_of_a_small_batch(batch):
    (student, teacher), pair = hidden_states(batch), memories()
    expected = reference_global(reference_flat(student), reference_flat(teacher), *(memory.numpy() for memory in pair))
    assert [term.item() for term in global_terms(student, teacher, *pair)] == pytest.approx(expected, rel=1e-10)


def test_a_single_centroid_is_no_structure():
    (student, teacher), pair = hidden_states(), [leaf(memory[:1]) for memory in memories()]
    terms = global_terms(student, teacher, *pair)
    assert terms.memory_cka.item() == 0 and terms.distance.item() > 0
    (gradient,) = torch.autograd.grad(terms.memory_cka, pair[0])
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_features_wider_than_the_memory_are_refused():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    with pytest.raises(ValueError, match="features of width 18 beside a memory of width 15"):
        global_terms(student, teacher, student_memory[:, :15], teacher_memory)


def test_features_that_are_not_finite_give_no_finite_distance():
    (student, teacher), pair = hidden_states(), memories()
    student[1, 2, 0] = math.nan
    terms = global_terms(student, teacher, *pair)
    assert math.isnan(terms.distance.item())
