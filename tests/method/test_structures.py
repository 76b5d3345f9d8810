"""The intra-feature and the local inter-feature loss: values, gradients, and the edges: constants, padding, offsets."""

from functools import partial

import numpy as np
import pytest
import torch
from references import (
    D_STUDENT,
    FLOOR,
    MASKS,
    NO_CKA,
    B,
    S,
    assert_no_structure,
    both_precisions,
    constants,
    hidden_states,
    leaf,
    masks,
    normal,
    reference_cka,
    reference_intra,
    reference_local,
)

from fsd.method.losses import intra_feature_loss, local_inter_feature_loss

released_intra = partial(intra_feature_loss, released=True)
LOSSES = {"intra": intra_feature_loss, "released intra": released_intra, "local inter": local_inter_feature_loss}
losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
both_forms = pytest.mark.parametrize("released", [False, True])


@masks
@both_precisions
@both_forms
def test_intra(mask, released, dtype, tolerance):
    student, teacher = hidden_states()
    loss = intra_feature_loss(student.to(dtype), teacher.to(dtype), mask, released)
    assert loss.item() == pytest.approx(reference_intra(student, teacher, mask, released), rel=tolerance)
    assert loss.dtype == dtype and loss.shape == ()


@masks
@both_precisions
@pytest.mark.parametrize("batch", [2, 3, 5])
def test_local_inter(batch, mask, dtype, tolerance):
    student, teacher = hidden_states(batch)
    mask = None if mask is None else mask[:batch]
    loss = local_inter_feature_loss(student.to(dtype), teacher.to(dtype), mask)
    expected = reference_local(student, teacher, mask)
    # Of two examples CKA is 1 whatever they are, and its −log rounding alone: hence the absolute tolerance.
    assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance / 10)
    assert loss.dtype == dtype and loss.shape == ()


@masks
def test_gradient_of_hidden_states(mask):
    student, teacher = hidden_states()
    for loss in LOSSES.values():
        assert torch.autograd.gradcheck(lambda h, loss=loss: loss(h, teacher, mask), leaf(student))


def test_partial_last_batch_is_its_own_batch():
    # 13 examples in batches of 5: the last has 3. Its structure is that of 3 examples of S tokens, nothing reshaped.
    student, teacher = hidden_states(13)
    last = student[10:], teacher[10:]
    assert local_inter_feature_loss(*last).item() == pytest.approx(reference_local(*last), rel=1e-10)
    for released in (False, True):
        loss = intra_feature_loss(*last, released=released)
        assert loss.item() == pytest.approx(reference_intra(*last, released=released), rel=1e-10)


def test_the_two_forms_of_intra_differ():
    student, teacher = hidden_states()
    assert intra_feature_loss(student, teacher).item() > released_intra(student, teacher).item() + 0.01  # Jensen's inequality


@losses
def test_same_structure_costs_nothing(loss):
    student, _ = hidden_states()
    orthogonal, _ = torch.linalg.qr(normal(D_STUDENT, D_STUDENT, seed=4))
    # −log(1 + 1e-8) and rounding
    assert loss(student, student.clone()).item() == pytest.approx(0, abs=2e-8)
    assert loss(1e6 * student @ orthogonal, student).item() == pytest.approx(0, abs=2e-8)


@losses
@pytest.mark.parametrize("scale, shift", [(1e-6, 0), (1e6, 0), (1, 1e3)])
def test_scale_and_shift_of_the_student_in_float32(loss, scale, shift):
    student, teacher = hidden_states()
    changed = (scale * student + shift).float()
    # at offset 1e3 float32 keeps the features to 3e-5, everywhere else to 1e-7
    assert loss(changed, teacher.float()).item() == pytest.approx(loss(student, teacher).item(), rel=1e-3 if shift else 1e-5)


def test_order_of_tokens_and_of_examples_plays_no_part():
    student, teacher = hidden_states()
    tokens, examples = torch.tensor([3, 1, 5, 0, 4, 2]), torch.tensor([4, 2, 0, 1, 3])
    for loss in LOSSES.values():
        expected = loss(student, teacher).item()
        assert loss(student[:, tokens], teacher[:, tokens]).item() == pytest.approx(expected, rel=1e-10)
        assert loss(student[examples], teacher[examples]).item() == pytest.approx(expected, rel=1e-10)
        assert loss(student[examples][:, tokens], teacher).item() != pytest.approx(expected, rel=1e-3)


@constants
@masks
@losses
def test_constant_student(loss, mask, constant):
    if mask is not None and loss is local_inter_feature_loss:
        constant = torch.zeros_like(constant)  # of a masked constant the lengths still are a structure between examples
    student = leaf(constant)
    value = loss(student, hidden_states()[1].float(), mask)
    value.backward()
    assert value.item() == pytest.approx(NO_CKA, rel=1e-6)
    assert torch.equal(student.grad, torch.zeros_like(student))


@constants
@losses
def test_constant_teacher(loss, constant):
    student = leaf(hidden_states()[1].float())
    value = loss(student, constant)
    value.backward()
    assert value.item() == pytest.approx(NO_CKA, rel=1e-6)
    assert torch.equal(student.grad, torch.zeros_like(student))


@both_forms
def test_one_constant_example_among_others(released):
    student, teacher = (side.float() for side in hidden_states())
    student[2] = 0.1
    student = leaf(student)
    value = intra_feature_loss(student, teacher, released=released)
    value.backward()
    ckas = [0 if b == 2 else reference_cka(*(side[b].detach().double().numpy() for side in (teacher, student))) for b in range(B)]
    expected = -np.log(np.mean(ckas) + FLOOR) if released else np.mean(-np.log(np.array(ckas) + FLOOR))
    assert value.item() == pytest.approx(expected, rel=1e-4)
    assert torch.isfinite(student.grad).all()
    assert (student.grad[2] == 0).all() and (student.grad[[0, 1, 3, 4]].abs().amax(dim=(1, 2)) > 0).all()


def test_fewer_than_two_items_are_no_structure():
    assert_no_structure(local_inter_feature_loss, *hidden_states(batch=1))
    assert_no_structure(local_inter_feature_loss, *hidden_states(batch=1), torch.ones(1, S))
    for loss in (intra_feature_loss, released_intra):
        assert_no_structure(loss, *hidden_states(tokens=1))
        assert_no_structure(loss, *hidden_states(tokens=1), torch.ones(B, 1))


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1), (0, 0, 0, 0, 0), (0, 1, 0, 1, 1)])
def test_intra_with_no_example_left(lengths):
    mask = torch.arange(S) < torch.tensor(lengths)[:, None]
    assert_no_structure(intra_feature_loss, *hidden_states(), mask)
    assert_no_structure(released_intra, *hidden_states(), mask)


def test_local_inter_with_all_masked():
    student = leaf(hidden_states()[0].float())
    value = local_inter_feature_loss(student, hidden_states()[1].float(), torch.zeros(B, S))
    value.backward()
    assert value.item() == pytest.approx(NO_CKA, rel=1e-6)  # B items without variance, so CKA is 0
    assert torch.equal(student.grad, torch.zeros_like(student))


@both_forms
def test_batch_of_one_has_intra_structure(released):
    student, teacher = hidden_states(batch=1)
    expected = reference_intra(student, teacher, released=released)
    assert intra_feature_loss(student, teacher, released=released).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("junk", [1e4, float("nan"), float("inf")])
@losses
def test_masked_positions_play_no_part(loss, junk):
    mask = MASKS["right-padded"]
    student, teacher = hidden_states()
    expected = loss(student, teacher, mask).item()
    dirty = leaf(student.masked_fill(mask[..., None] == 0, junk))
    value = loss(dirty, teacher.masked_fill(mask[..., None] == 0, junk), mask)
    value.backward()
    assert value.item() == expected
    assert torch.isfinite(dirty.grad).all() and (dirty.grad[mask == 0] == 0).all()


@losses
@both_precisions
def test_masked_at_full_and_at_cut_length(loss, dtype, tolerance):
    mask = MASKS["right-padded"]
    longest = int(mask.sum(dim=1).max())
    assert longest < S
    student, teacher = (side.to(dtype) for side in hidden_states())
    full, cut = leaf(student), leaf(student[:, :longest])
    full_loss, cut_loss = loss(full, teacher, mask), loss(cut, teacher[:, :longest], mask[:, :longest])
    assert cut_loss.item() == pytest.approx(full_loss.item(), rel=tolerance)
    full_loss.backward()
    cut_loss.backward()
    torch.testing.assert_close(cut.grad, full.grad[:, :longest], rtol=10 * tolerance, atol=tolerance / 10)
