"""The global inter-feature loss: its parts and gradients, short features, its invariances, normalised distances."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from references import (
    D_STUDENT,
    FLOOR,
    MASKS,
    B,
    K,
    S,
    both_precisions,
    global_terms,
    hidden_states,
    leaf,
    masks,
    memories,
    normal,
    reference_flat,
    reference_global,
    reference_relations,
    take_two_chunks,
)
from torch.nn import functional

from fsd.method import global_structure
from fsd.method.global_structure import (
    global_inter_feature_loss,
    global_inter_feature_terms,
    memory_products,
)
from fsd.method.losses import zero_padding


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    take_two_chunks(monkeypatch)


gradcheck = partial(torch.autograd.gradcheck, fast_mode=True)  # along random directions; the slow way takes seconds


@masks
@both_precisions
def test_global_parts(mask, dtype, tolerance):
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    terms = global_terms(
        zero_padding(student, mask).to(dtype), zero_padding(teacher, mask).to(dtype),
        student_memory.to(dtype), teacher_memory.to(dtype),
    )
    flat = reference_flat(student, mask), reference_flat(teacher, mask)
    expected = reference_global(*flat, student_memory.numpy(), teacher_memory.numpy())
    for value, reference in zip(terms, expected, strict=True):
        assert value.item() == pytest.approx(reference, rel=tolerance)
        assert value.dtype == dtype and value.shape == ()


@pytest.mark.parametrize("gamma_m", [0.0, 0.3, 1.0])
def test_global_weights_its_parts(gamma_m):
    (student, teacher), pair = hidden_states(), memories()
    expected = reference_global(reference_flat(student), reference_flat(teacher), *(memory.numpy() for memory in pair))
    expected = gamma_m * expected[0] + (1 - gamma_m) * expected[1] + expected[2]
    assert global_inter_feature_loss(student, teacher, *pair, gamma_m).item() == pytest.approx(expected, rel=1e-10)
    in_rows = [memory.view(K, S, -1) for memory in pair]  # [K, S, d] is as good as [K, S·d], and flat features as [B, S, d]
    loss = global_inter_feature_loss(student.flatten(1), teacher.flatten(1), *in_rows, gamma_m)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


@masks
@pytest.mark.parametrize("part", [0, 1, 2])
def test_gradient_of_global_parts(mask, part):
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    if part == 1 and mask is not None:
        mask = mask.clone()
        mask[:, 2] = 1  # at features that are all zero a cosine has no derivative

    def loss(hidden, memory):
        return global_terms(zero_padding(hidden, mask), zero_padding(teacher, mask), memory, teacher_memory)[part]

    if part == 2:
        assert gradcheck(lambda memory: loss(student, memory), leaf(student_memory))
    else:
        assert gradcheck(loss, (leaf(student), leaf(student_memory)))


def plain_terms(student, teacher, student_memory, teacher_memory):
    """The parts from their definitions, all by autograd; B, K and P as they come."""
    sides = (student, student_memory), (teacher, teacher_memory)
    distances = [torch.linalg.vector_norm(x[:, None] - m, dim=-1) for x, m in sides]
    cosines = [functional.normalize(x) @ functional.normalize(m).T for x, m in sides]
    k, l = ((m - m.mean(dim=0)) @ (m - m.mean(dim=0)).T for m in (student_memory, teacher_memory))  # noqa: E741
    cka = (k * l).sum() / (k.norm() * l.norm())
    return functional.mse_loss(*distances), functional.mse_loss(*cosines), -torch.log(cka + FLOOR)


@pytest.mark.parametrize("length", [5000, 2100, 7], ids=["whole", "short", "one chunk"])
def test_values_and_gradients_at_the_real_chunk_sizes(monkeypatch, length):
    monkeypatch.undo()
    batch, centroids, width = 3, 150, 5000
    assert width > 2 * global_structure.CPU_COLUMNS and centroids > global_structure.GRAM_ROWS
    teacher = normal(batch, length, seed=1)
    student, student_memory = 2 * normal(batch, length) + teacher, normal(centroids, width, seed=2) + 0.5
    teacher_memory = normal(centroids, width, seed=3) + student_memory
    results = []
    for dtype, terms in ((torch.float32, global_terms), (torch.float64, plain_terms)):
        features, memory = leaf(student.to(dtype)), leaf(student_memory.to(dtype))
        padding = (0, 0 if terms is global_terms else width - length)
        both = functional.pad(features, padding), functional.pad(teacher.to(dtype), padding)
        parts = terms(*both, memory, teacher_memory.to(dtype))
        loss = 0.3 * parts[0] + 20 * parts[1] + parts[2]  # so that each part matters
        results.append((*parts, *torch.autograd.grad(loss, (features, memory))))
    for value, expected in zip(*results, strict=True):
        # the gradients go through differences of distances near 100, which float32 knows to 1e-5
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_gradient_of_features_beside_a_fixed_memory():
    (student, teacher), pair = hidden_states(), memories()
    assert gradcheck(lambda hidden: global_terms(hidden, teacher, *pair)[:2], leaf(student))


@pytest.mark.parametrize("tokens", [S, 4])
def test_the_gradient_is_written_into_a_spare_tensor(tokens):
    (student, teacher), (student_memory, teacher_memory) = hidden_states(tokens=tokens), memories()
    memory, spare = leaf(student_memory.view(K, S, D_STUDENT)), [torch.full((K, S, D_STUDENT), math.nan, dtype=torch.float64)]
    address = spare[0].data_ptr()
    gradients = []
    for _ in range(2):  # the second finds no spare one
        products = memory_products(memory, spare)
        sum(global_inter_feature_terms(student, teacher, products, memory_products(teacher_memory))).backward()
        assert spare == []
        gradients.append(memory.grad)
        memory.grad = None
    assert gradients[0].data_ptr() == address != gradients[1].data_ptr()
    assert torch.equal(*gradients) and torch.isfinite(gradients[0]).all()


def test_gradient_of_global_with_short_features():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()

    def loss(hidden, memory):
        mask = torch.ones(hidden.shape[:2])
        return global_inter_feature_loss(hidden, teacher[:, :4], memory + 2, teacher_memory, 0.3, mask)  # + 2: offset in the tail

    assert gradcheck(loss, (leaf(student[:, :4]), leaf(student_memory)))


def test_short_features_without_a_mask_are_refused():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    with pytest.raises(ValueError, match="pad the examples to the memory's length, give the mask, or take"):
        global_inter_feature_loss(student[:, :4], teacher[:, :4], student_memory, teacher_memory, 0.3)


@both_precisions
def test_short_features_are_zero_beyond_their_end(dtype, tolerance):
    (student, teacher), (student_memory, teacher_memory) = hidden_states(tokens=4), memories()
    student_memory, teacher_memory = student_memory + 2, teacher_memory - 1  # so that the tail matters
    terms = global_terms(*(side.to(dtype) for side in (student, teacher, student_memory, teacher_memory)))
    padded = [np.concatenate([reference_flat(side), np.zeros((B, 2 * side.shape[2]))], axis=1) for side in (student, teacher)]
    expected = reference_global(*padded, student_memory.numpy(), teacher_memory.numpy())
    for value, reference in zip(terms, expected, strict=True):
        assert value.item() == pytest.approx(reference, rel=tolerance)


@both_precisions
def test_global_masked_at_full_and_at_cut_length(dtype, tolerance):
    mask = MASKS["right-padded"]
    longest = int(mask.sum(dim=1).max())
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    teacher, teacher_memory = teacher.to(dtype), (teacher_memory + 1).to(dtype)
    results = []
    for length in (S, longest):
        hidden, memory = leaf(student[:, :length].to(dtype)), leaf(student_memory.to(dtype))
        loss = global_inter_feature_loss(hidden, teacher[:, :length], memory, teacher_memory, 0.3, mask[:, :length])
        results.append((loss.item(), *torch.autograd.grad(loss, (hidden, memory))))
    (full, full_features, full_memory), (cut, cut_features, cut_memory) = results
    assert cut == pytest.approx(full, rel=tolerance)
    torch.testing.assert_close(cut_features, full_features[:, :longest], rtol=10 * tolerance, atol=tolerance / 10)
    torch.testing.assert_close(cut_memory, full_memory, rtol=10 * tolerance, atol=tolerance / 10)


def test_global_of_equal_sides_costs_nothing():
    student, memory = hidden_states()[0], memories()[0]
    terms = global_terms(student, student.clone(), memory, memory.clone())
    assert terms.distance.item() == terms.cosine.item() == 0
    assert terms.memory_cka.item() == pytest.approx(0, abs=2e-8)  # −log(1 + 1e-8) and rounding


def test_global_does_not_depend_on_the_order_of_centroids_or_examples():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    expected = [term.item() for term in global_terms(student, teacher, student_memory, teacher_memory)]
    centroids, examples = torch.tensor([5, 0, 3, 6, 1, 2, 4]), torch.tensor([4, 2, 0, 1, 3])
    moved = global_terms(student[examples], teacher[examples], student_memory[centroids], teacher_memory[centroids])
    assert [term.item() for term in moved] == pytest.approx(expected, rel=1e-10)
    unmatched = global_terms(student, teacher, student_memory[centroids], teacher_memory)
    assert all(a.item() != pytest.approx(b, rel=1e-3) for a, b in zip(unmatched, expected, strict=True))


def test_global_terms_ignore_rotation_and_distances_shifts():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    before = global_terms(student, teacher, student_memory, teacher_memory)
    rotation, _ = torch.linalg.qr(normal(S * D_STUDENT, S * D_STUDENT, seed=20))
    rotated = global_terms(student.flatten(1) @ rotation, teacher, student_memory @ rotation, teacher_memory)
    assert [term.item() for term in rotated] == pytest.approx([term.item() for term in before], rel=1e-10)
    shifted = global_terms(student + 3, teacher, student_memory + 3, teacher_memory)
    assert shifted.distance.item() == pytest.approx(before.distance.item(), rel=1e-10)
    assert shifted.memory_cka.item() == pytest.approx(before.memory_cka.item(), rel=1e-10)
    assert shifted.cosine.item() != pytest.approx(before.cosine.item(), rel=1e-3)
    for scale in (1e-6, 1e6):  # cosines and CKA do not depend on the scale of either argument
        scaled = global_terms(scale * student.float(), teacher.float(), scale * student_memory.float(), teacher_memory.float())
        assert scaled.cosine.item() == pytest.approx(before.cosine.item(), rel=1e-4)
        assert scaled.memory_cka.item() == pytest.approx(before.memory_cka.item(), rel=1e-4)


@both_precisions
def test_normalized_distances_are_root_mean_squares_of_the_features(dtype, tolerance):
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    widths = [side.shape[1] ** 0.5 for side in (student_memory, teacher_memory)]
    relations = [reference_relations(reference_flat(side), memory.numpy())[0] for side, memory in
                 ((student, student_memory), (teacher, teacher_memory))]
    expected = np.mean((relations[0] / widths[0] - relations[1] / widths[1]) ** 2)
    given = [side.to(dtype) for side in (student, teacher, student_memory, teacher_memory)]
    plain, normalized = (
        global_inter_feature_terms(*given[:2], *map(memory_products, given[2:]), normalize_distances=form)
        for form in (False, True)
    )
    assert normalized.distance.item() == pytest.approx(expected, rel=tolerance)
    assert (normalized.cosine, normalized.memory_cka) == (plain.cosine, plain.memory_cka)
    whole = global_inter_feature_loss(*given, 0.25, normalize_distances=True).item()
    parts = 0.25 * normalized.distance + 0.75 * normalized.cosine + normalized.memory_cka
    assert whole == pytest.approx(parts.item(), rel=tolerance)


def test_normalized_distances_of_cut_examples_go_over_the_whole_memory():
    (student, teacher), (student_memory, teacher_memory) = hidden_states(), memories()
    mask = MASKS["right-padded"]
    longest = int(mask.sum(dim=1).max())
    values = [
        global_inter_feature_loss(student[:, :length], teacher[:, :length], student_memory, teacher_memory, 1.0, mask[:, :length],
                                  normalize_distances=True).item() for length in (S, longest)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-10)
