"""Debiased CKA against the formula of Song et al. 2012 in NumPy, and the losses that take it.

The reference sums over the Gram matrices without their diagonals; it centres nothing. Tolerances as in test_cka.py.
"""

import numpy as np
import pytest
import torch
from references import MASKS, B, S, assert_no_structure, hidden_states, leaf, memories, reference_flat
from test_cka import CHANGES, CONSTANT, normal, related

from fsd import global_inter_feature_loss, intra_feature_loss, linear_cka, local_inter_feature_loss
from fsd.method.cka import gram_cka, masked_centered_gram
from fsd.method.global_structure import global_inter_feature_terms, memory_products
from fsd.method.objective import Objective


def hsic(x, y):
    """Song et al. 2012, Eq. 5, for linear kernels."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, k, l = len(x), x @ x.T, y @ y.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    product = k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l).sum()
    return (np.trace(k @ l) + product) / (n * (n - 3))


def reference(x, y):
    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


@pytest.mark.parametrize("items, seed", [(4, 0), (5, 1), (12, 2), (40, 3)])
def test_definition(items, seed):
    x, y = related(items, seed)
    expected = reference(x, y)
    assert linear_cka(x, y, debiased=True).item() == pytest.approx(expected, abs=1e-11)
    assert linear_cka(x.float(), y.float(), debiased=True).item() == pytest.approx(expected, abs=1e-5)


def test_many_features_in_float32():
    x = normal(32, 30000, seed=0) + normal(1, 30000, seed=1)
    y = x[:, ::2] + normal(32, 15000, seed=2)
    # Rounding is relative to the diagonal of the Gram matrix, which is 170 times what lies off it.
    assert linear_cka(x.float(), y.float(), debiased=True).item() == pytest.approx(reference(x, y), abs=1e-4)


def test_batched():
    pairs = [related(6, seed=10 * i) for i in range(3)]
    x, y = (torch.stack(sides) for sides in zip(*pairs, strict=True))
    np.testing.assert_allclose(linear_cka(x, y, debiased=True).numpy(), [reference(*pair) for pair in pairs], atol=1e-11)
    np.testing.assert_allclose(
        linear_cka(x[:, None], y[None], debiased=True).numpy(), [[reference(a, b) for b in y] for a in x], atol=1e-11
    )


@pytest.mark.parametrize("items", [4, 16, 32])
def test_noise_is_zero_on_average(items):
    draws = 64
    x, y = normal(draws, items, 1000, seed=0), normal(draws, items, 1000, seed=1)
    error = (2 / (items * (items - 3))) ** 0.5
    values = linear_cka(x, y, debiased=True)
    assert abs(values.mean().item()) < 4 * error / draws**0.5 and (values < 0).any()
    assert values.std().item() == pytest.approx(error, rel=0.4)  # the standard error of 64 draws' is 9 % of it
    assert linear_cka(x, y).mean() > 0.95  # which the biased one takes for alike


def test_one_with_itself():
    x, _ = related()
    assert linear_cka(x, x, debiased=True).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("change, tolerance", CHANGES.values(), ids=CHANGES.keys())
def test_invariant(change, tolerance):
    x, y = related()
    before = reference(x, y)
    assert linear_cka(change(x), y, debiased=True).item() == pytest.approx(before, abs=1e-11)
    assert linear_cka(change(x).float(), y.float(), debiased=True).item() == pytest.approx(before, abs=tolerance)
    assert linear_cka(y.float(), change(x).float(), debiased=True).item() == pytest.approx(before, abs=tolerance)


def masked(x, y, mask):
    return gram_cka(masked_centered_gram(x, mask), masked_centered_gram(y, mask), debiased=True, mask=mask)


def test_gradient():
    x, y = (side.requires_grad_() for side in related(6))
    mask = torch.tensor([1, 1, 0, 1, 1, 1])
    assert torch.autograd.gradcheck(lambda x, y: linear_cka(x, y, debiased=True), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: masked(x, y, mask), (x, y))


@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
def test_masked_equals_cut(mask):
    x, y = related(6)
    kept = torch.tensor(mask).bool()
    expected = linear_cka(x[kept], y[kept], debiased=True).item()
    assert masked(x, y, torch.tensor(mask)).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("constant", CONSTANT.values(), ids=CONSTANT.keys())
def test_constant_features(constant):
    constant, other = leaf(constant), leaf(normal(6, 3, dtype=torch.float32))
    for x, y in ((constant, other), (other, constant), (constant, constant)):
        value = linear_cka(x, y, debiased=True)
        assert value.item() == 0
        for gradient in torch.autograd.grad(value, [x, y] if x is not y else [x]):
            assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("odd", [0, 3])
def test_one_item_unlike_all_others_is_no_structure(odd):
    """The unbiased HSIC is zero then, and what stands in its place is rounding, of which no ratio may be taken."""
    x = normal(1, 7, dtype=torch.float32).repeat(6, 1)
    x[odd] = normal(7, seed=1).float()
    x = leaf(x)
    value = linear_cka(x, normal(6, 3, dtype=torch.float32), debiased=True)
    value.backward()
    assert abs(value.item()) < 1e-5 and x.grad.abs().max() < 1


@pytest.mark.parametrize("items", [1, 2, 3])
def test_fewer_than_four_items(items):
    x = leaf(normal(items, 5))
    value = linear_cka(x, normal(items, 3, seed=1), debiased=True)
    value.backward()
    assert value.item() == 0 and torch.equal(x.grad, torch.zeros_like(x))


# --- the losses ---


def intra(*arguments):
    return intra_feature_loss(*arguments, debiased=True)


def local_inter(*arguments):
    return local_inter_feature_loss(*arguments, debiased=True)


@pytest.mark.parametrize("mask", [None, *MASKS.values()], ids=["no mask", *MASKS])
def test_the_intra_loss_leaves_out_examples_of_under_four_tokens(mask):
    student, teacher = hidden_states()
    kept = [slice(None)] * B if mask is None else [row.bool() for row in mask]
    sides = [(teacher[b][at], student[b][at]) for b, at in enumerate(kept)]
    expected = np.mean([1 - reference(*pair) for pair in sides if len(pair[0]) >= 4])
    assert intra(student, teacher, mask).item() == pytest.approx(expected, rel=1e-10)
    assert intra(student.float(), teacher.float(), mask).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mask", [None, *MASKS.values()], ids=["no mask", *MASKS])
def test_the_local_inter_loss(mask):
    student, teacher = hidden_states()
    expected = 1 - reference(reference_flat(teacher, mask), reference_flat(student, mask))
    assert local_inter(student, teacher, mask).item() == pytest.approx(expected, rel=1e-10)


def test_the_memories_part():
    student, teacher = hidden_states()
    of_student, of_teacher = (memory_products(memory) for memory in memories())
    plain, debiased = (global_inter_feature_terms(student, teacher, of_student, of_teacher, form) for form in (False, True))
    assert debiased.memory_cka.item() == pytest.approx(1 - reference(*memories()), rel=1e-10)
    assert (plain.distance, plain.cosine) == (debiased.distance, debiased.cosine)
    whole, biased = (global_inter_feature_loss(student, teacher, *memories(), 0.5, debiased=form) for form in (True, False))
    assert (whole - biased).item() == pytest.approx((debiased.memory_cka - plain.memory_cka).item(), rel=1e-10)
    few = [memory[:3] for memory in memories()]
    assert global_inter_feature_terms(student, teacher, *map(memory_products, few), True).memory_cka.item() == 0


def test_fewer_than_four_items_are_no_structure():
    assert_no_structure(local_inter, *hidden_states(batch=3))
    assert_no_structure(local_inter, *hidden_states(batch=1), torch.ones(1, S))
    assert_no_structure(intra, *hidden_states(tokens=3))
    assert_no_structure(intra, *hidden_states(), torch.arange(S) < torch.tensor([3, 2, 0, 1, 3])[:, None])


@pytest.mark.parametrize("loss", [intra, local_inter])
def test_gradient_of_the_losses_and_masked_positions(loss):
    student, teacher = hidden_states()
    mask = MASKS["left-padded"]
    assert torch.autograd.gradcheck(lambda hidden: loss(hidden, teacher, mask), leaf(student))
    dirty = leaf(student.masked_fill(mask[..., None] == 0, float("nan")))
    value = loss(dirty, teacher, mask)
    value.backward()
    assert value.item() == loss(student, teacher, mask).item()
    assert torch.isfinite(dirty.grad).all() and (dirty.grad[mask == 0] == 0).all()


def test_a_constant_student():
    for loss in (intra, local_inter):
        student = leaf(torch.full((B, S, 3), 0.1))
        value = loss(student, hidden_states()[1].float())
        value.backward()
        assert value.item() == 1 and torch.equal(student.grad, torch.zeros_like(student))


def test_the_released_form_has_no_debiased_one():
    with pytest.raises(ValueError, match="released and debiased exclude each other"):
        intra_feature_loss(*hidden_states(), released=True, debiased=True)


def test_the_objective():
    student, teacher = hidden_states()
    logits, of_student, of_teacher = normal(B, 2), *map(memory_products, memories())
    gammas = {"gamma_i": 1.0, "gamma_l": 1.0, "gamma_g": 1.0}
    objective = Objective(0.5, beta=2.0, **gammas, debiased=True, pairs=((5, 2),), default_pair=(5, 2))
    values = objective.losses(
        (logits, {2: student}), (logits, {5: teacher}), torch.zeros(B, dtype=torch.long), None, of_student, of_teacher
    )
    assert values["intra"].item() == intra(student, teacher).item()
    assert values["local_inter"].item() == local_inter(student, teacher).item()
    assert values["memory_cka"].item() == pytest.approx(1 - reference(*memories()), rel=1e-10)
    assert objective.formula() == (
        "0.5·task_loss + 0.5·dark_knowledge + 2·intra (debiased) + 2·local_inter (debiased) + 1·global_distance"
        " + 1·global_cosine + 2·memory_cka (debiased)"
    )
