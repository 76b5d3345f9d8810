"""PKD and RKD against loops in float64, their gradients and invariances, and the edges: equal items, offsets, small batches."""

import numpy as np
import pytest
import torch
from references import D_STUDENT, MASKS, B, S, both_precisions, hidden_states, leaf, masks, normal, reference_flat

from fsd.method.baselines import pkd_loss, rkd_angle_loss, rkd_distance_loss, rkd_losses

RKD = {"distance": rkd_distance_loss, "angle": rkd_angle_loss}
rkd = pytest.mark.parametrize("part", RKD)


# --- references ---


def smooth_l1(difference):
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def relative_distances(features):
    distances = np.array([[np.sqrt(np.sum((x - y) ** 2)) for x in features] for y in features])
    positive = distances[distances > 0]
    return distances / positive.mean() if len(positive) else distances


def unit(x):
    norm = np.sqrt(np.sum(x**2))
    return x / norm if norm > 0 else x


def angle_cosines(features):
    return np.array([[[unit(x - y) @ unit(z - y) for z in features] for y in features] for x in features])


def reference_rkd(part, student, teacher):
    relations = {"distance": relative_distances, "angle": angle_cosines}[part]
    return np.mean([smooth_l1(d) for d in np.ravel(relations(teacher) - relations(student))])


def reference_pkd(student, teacher):
    squares = []
    for s, t in zip(student[:, 0].double().numpy(), teacher[:, 0].double().numpy(), strict=True):
        squares += [(a - b) ** 2 for a, b in zip(unit(s), unit(t), strict=True)]
    return np.mean(squares)


# --- PKD ---


@both_precisions
def test_pkd(dtype, tolerance):
    student, teacher = normal(B, S, 8), normal(B, S, 8, seed=1)
    loss = pkd_loss(student.to(dtype), teacher.to(dtype))
    assert loss.item() == pytest.approx(reference_pkd(student, teacher), rel=tolerance)
    assert loss.dtype == dtype and loss.shape == ()


def test_pkd_looks_at_the_direction_of_the_first_token():
    student, teacher = normal(B, S, 8), normal(B, S, 8, seed=1)
    expected = pkd_loss(student, teacher).item()
    scales = torch.rand(B, 1, 1) + 0.5
    assert pkd_loss(scales * student, 100 * teacher).item() == pytest.approx(expected, rel=1e-10)
    assert pkd_loss(scales * teacher, teacher).item() == pytest.approx(0, abs=1e-30)
    student[:, 1:] = 7
    assert pkd_loss(student, teacher).item() == expected
    assert pkd_loss(-teacher, teacher).item() == pytest.approx(4 / 8, rel=1e-10)


def test_pkd_of_a_zero_state():
    student, teacher = normal(B, S, 8).float(), normal(B, S, 8, seed=1).float()
    student[2, 0] = 0
    hidden = leaf(student)
    loss = pkd_loss(hidden, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(reference_pkd(student, teacher), rel=1e-5)
    assert torch.isfinite(hidden.grad).all() and (hidden.grad[2] == 0).all() and (hidden.grad[0, 0] != 0).any()


def test_pkd_gradient_and_widths():
    teacher = normal(B, S, D_STUDENT, seed=1)
    assert torch.autograd.gradcheck(lambda h: pkd_loss(h, teacher), leaf(hidden_states()[0]))
    with pytest.raises(ValueError, match="same hidden size, not 3 and 4"):
        pkd_loss(*hidden_states())


# --- RKD ---


@rkd
@masks
@both_precisions
def test_rkd(part, mask, dtype, tolerance):
    student, teacher = hidden_states()
    loss = RKD[part](student.to(dtype), teacher.to(dtype), mask)
    expected = reference_rkd(part, reference_flat(student, mask), reference_flat(teacher, mask))
    assert loss.item() == pytest.approx(expected, rel=tolerance)
    assert loss.dtype == dtype and loss.shape == ()


@rkd
def test_rkd_takes_flat_features(part):
    student, teacher = hidden_states()
    assert RKD[part](student.flatten(1), teacher.flatten(1)).item() == RKD[part](student, teacher).item()


def test_both_parts_at_once():
    student, teacher = hidden_states()
    both = rkd_losses(student, teacher, MASKS["left-padded"])
    assert {name: loss.item() for name, loss in both.items()} == {
        name: loss(student, teacher, MASKS["left-padded"]).item() for name, loss in RKD.items()
    }


@rkd
def test_smooth_l1_is_linear_for_large_differences(part):
    student = torch.cat([torch.zeros(9, 1), torch.full((1, 1), 50.0)]).double() + normal(10, 1)
    teacher = normal(10, 1, seed=1)
    expected = reference_rkd(part, student.numpy(), teacher.numpy())
    assert RKD[part](student, teacher).item() == pytest.approx(expected, rel=1e-9)
    assert abs(relative_distances(student.numpy()) - relative_distances(teacher.numpy())).max() > 1


@rkd
@masks
def test_rkd_gradient(part, mask):
    student, teacher = hidden_states()
    mask = MASKS["right-padded"] if mask is MASKS["one token and none"] else mask
    assert torch.autograd.gradcheck(lambda h: RKD[part](h, teacher, mask), leaf(student))


@rkd
def test_rkd_ignores_rotation_shift_and_scale(part):
    student, teacher = (side.flatten(1) for side in hidden_states())
    expected = RKD[part](student, teacher).item()
    rotation, _ = torch.linalg.qr(normal(student.shape[1], student.shape[1], seed=4))
    for changed in (student @ rotation, student + 3, 1e6 * student, 1e-6 * student):
        assert RKD[part](changed, teacher).item() == pytest.approx(expected, rel=1e-9)
        assert RKD[part](changed, student).item() == pytest.approx(0, abs=1e-12)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert RKD[part](student[order], teacher[order]).item() == pytest.approx(expected, rel=1e-9)
    assert RKD[part](student[order], teacher).item() != pytest.approx(expected, rel=1e-3)


@rkd
@pytest.mark.parametrize("batch", [1, 2])
def test_one_and_two_examples_cost_nothing(part, batch):
    student, teacher = (side.float() for side in hidden_states(batch))
    student = leaf(student)
    loss = RKD[part](student, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12) and torch.isfinite(student.grad).all()
    torch.testing.assert_close(student.grad, torch.zeros_like(student), rtol=0, atol=1e-6)


@rkd
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_features(part, value):
    teacher = hidden_states()[1].float()
    student = leaf(torch.full((B, S, D_STUDENT), value))
    loss = RKD[part](student, teacher)
    loss.backward()
    # every relation of the student is 0, the teacher's are not
    assert loss.item() == pytest.approx(reference_rkd(part, np.zeros((B, 1)), reference_flat(teacher)), rel=1e-5)
    assert torch.equal(student.grad, torch.zeros_like(student))
    both = leaf(torch.full((B, S, D_STUDENT), value))
    loss = RKD[part](both, torch.full((B, S, 4), 0.3))
    loss.backward()
    assert loss.item() == 0 and torch.equal(both.grad, torch.zeros_like(both))
    of_teacher = leaf(hidden_states()[0].float())
    loss = RKD[part](of_teacher, torch.full((B, S, 4), 0.3))
    loss.backward()
    assert loss.item() > 0 and torch.isfinite(of_teacher.grad).all()


@rkd
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_examples_are_at_distance_0(part, dtype):
    student, teacher = normal(B, 3000).to(dtype), normal(B, 2000, seed=1).to(dtype)
    student[3], teacher[4] = student[1], teacher[0]
    expected = reference_rkd(part, student.double().numpy(), teacher.double().numpy())
    features = leaf(student)
    loss = RKD[part](features, teacher)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert torch.isfinite(features.grad).all() and features.grad.abs().max() < 1
    torch.testing.assert_close(features.grad.sum(dim=0), torch.zeros(3000, dtype=dtype), rtol=0, atol=1e-6)


@rkd
def test_rkd_with_a_large_common_offset_in_float32(part):
    student, teacher = ((side + 1e3).float() for side in hidden_states())
    expected = reference_rkd(part, reference_flat(student), reference_flat(teacher))  # of the same rounded numbers
    assert RKD[part](student, teacher).item() == pytest.approx(expected, rel=1e-6)


@rkd
def test_all_masked(part):
    student, teacher = (side.float() for side in hidden_states())
    student = leaf(student)
    loss = RKD[part](student, teacher, torch.zeros(B, S))
    loss.backward()
    assert loss.item() == 0 and torch.equal(student.grad, torch.zeros_like(student))


@rkd
def test_masked_positions_play_no_part_in_rkd(part):
    mask = MASKS["right-padded"]
    student, teacher = hidden_states()
    expected = RKD[part](student, teacher, mask).item()
    dirty = leaf(student.masked_fill(mask[..., None] == 0, float("nan")))
    loss = RKD[part](dirty, teacher, mask)
    loss.backward()
    assert loss.item() == expected
    assert torch.isfinite(dirty.grad).all() and (dirty.grad[mask == 0] == 0).all()
    longest = int(mask.sum(dim=1).max())
    cut = RKD[part](student[:, :longest], teacher[:, :longest], mask[:, :longest])
    assert cut.item() == pytest.approx(expected, rel=1e-10)


# --- precision ---


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_under_autocast(half):
    student, teacher = (side.to(half) for side in hidden_states())
    wide = teacher[..., :D_STUDENT]
    expected = [
        pkd_loss(student.float(), wide.float()), rkd_distance_loss(student.float(), teacher.float()),
        rkd_angle_loss(student.float(), teacher.float()),
    ]
    hidden = leaf(student)
    with torch.autocast("cpu", torch.bfloat16):
        values = [pkd_loss(hidden, wide), rkd_distance_loss(hidden, teacher), rkd_angle_loss(hidden, teacher)]
    assert [value.dtype for value in values] == [torch.float32] * 3
    assert [value.item() for value in values] == [value.item() for value in expected]
    sum(values).backward()
    assert hidden.grad.dtype == half and torch.isfinite(hidden.grad).all()


def test_nan_stays_nan():
    student, teacher = hidden_states()
    student[1, 0, 0] = float("nan")
    assert pkd_loss(student, teacher[..., :D_STUDENT]).isnan()
    assert all(loss(student, teacher).isnan() for loss in RKD.values())
