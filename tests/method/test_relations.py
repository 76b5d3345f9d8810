"""The relation difference against loops in float64, and the edges: equal items, zero vectors, offsets, padding."""

import numpy as np
import pytest
import torch
from references import ALL_MASKS, MASKS, B, S, both_precisions, hidden_states, leaf, masks, normal

from fsd.method.relations import RELATIONS, relation_difference, relation_differences

metrics = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


def relation(x, y, metric):
    if metric == "euclidean":
        return np.sqrt(np.sum((x - y) ** 2))
    norms = np.sqrt(np.sum(x**2)), np.sqrt(np.sum(y**2))
    return 0 if 0 in norms else np.sum((x / norms[0]) * (y / norms[1]))


def reference(student, teacher, metric):
    """Eq. 12 and 13 for the items [N, ·] of one group, pair by pair."""
    student, teacher = student.double().numpy(), teacher.double().numpy()
    pairs = list(np.ndindex(len(student), len(student)))
    if not pairs:
        return 0
    values = [relation(teacher[i], teacher[j], metric) - relation(student[i], student[j], metric) for i, j in pairs]
    return np.mean(np.abs(values))


@metrics
@both_precisions
def test_between_examples(metric, dtype, tolerance):
    student, teacher = (side.flatten(1) for side in hidden_states())
    value = relation_difference(student.to(dtype), teacher.to(dtype), metric)
    assert value.item() == pytest.approx(reference(student, teacher, metric), rel=tolerance)
    assert value.dtype == dtype and value.shape == ()


@metrics
@masks
@both_precisions
def test_inside_of_examples(metric, mask, dtype, tolerance):
    student, teacher = hidden_states()
    values = relation_difference(student.to(dtype), teacher.to(dtype), metric, mask)
    kept = torch.ones(B, S, dtype=torch.bool) if mask is None else mask != 0
    expected = [reference(student[b][kept[b]], teacher[b][kept[b]], metric) for b in range(B)]
    assert values.tolist() == pytest.approx(expected, rel=tolerance, abs=1e-7) and values.dtype == dtype


@masks
def test_the_four_of_a_batch(mask):
    student, teacher = hidden_states()
    found = relation_differences(student, teacher, mask)
    real = torch.ones(B, S, 1) if mask is None else (mask != 0)[..., None]
    flat = (student * real).flatten(1), (teacher * real).flatten(1)
    assert tuple(found) == RELATIONS
    for metric in ("euclidean", "cosine"):
        assert torch.equal(found[f"inter_{metric}"], relation_difference(*flat, metric))
        assert torch.equal(found[f"intra_{metric}"], relation_difference(student, teacher, metric, mask))


def test_more_leading_dimensions():
    student, teacher = normal(2, 3, 4, 5), normal(2, 3, 4, 6, seed=1)
    values = relation_difference(student, teacher, "cosine")
    assert values.shape == (2, 3)
    assert values[1, 2].item() == pytest.approx(reference(student[1, 2], teacher[1, 2], "cosine"), rel=1e-10)


@metrics
def test_rotation_and_shift(metric):
    student, teacher = hidden_states()
    before = relation_difference(student, teacher, metric)
    rotation, _ = torch.linalg.qr(normal(student.shape[-1], student.shape[-1], seed=4))
    torch.testing.assert_close(relation_difference(student @ rotation, teacher, metric), before)
    if metric == "euclidean":
        torch.testing.assert_close(relation_difference(student + 3, teacher, metric), before)
    else:
        torch.testing.assert_close(relation_difference(3 * student, teacher, metric), before)


@metrics
def test_equal_sides_do_not_differ(metric):
    student, _ = hidden_states()
    assert (relation_difference(student, student.clone(), metric) == 0).all()


@metrics
def test_large_common_offset_in_float32(metric):
    student, teacher = ((side + 1e3).float() for side in hidden_states())
    expected = [reference(student[b], teacher[b], metric) for b in range(B)]
    # the reference starts from the same rounded numbers; cosines are within 1e-6 of 1, and 1e-16 off in float64
    assert relation_difference(student, teacher, metric).tolist() == pytest.approx(expected, rel=1e-6)


def test_near_and_equal_items_keep_their_distance():
    student = 100 * normal(3, 5000)
    student[1] = student[0]
    student[2] = student[0] + 1e-3
    student = torch.cat([student, normal(1, 5000, seed=1)]).float()
    teacher = torch.zeros(4, 2)
    value = relation_difference(student, teacher, "euclidean").item()
    assert value == pytest.approx(reference(student, teacher, "euclidean"), rel=1e-6)
    near = relation_difference(student[:3], teacher[:3], "euclidean").item()
    assert near == pytest.approx(reference(student[:3], teacher[:3], "euclidean"), rel=1e-6) and near > 0


@metrics
def test_zero_and_constant_items(metric):
    student, teacher = hidden_states()
    student[0], student[1], student[2, 3] = 0, 0.1, 0
    teacher[4] = 0
    for dtype in (torch.float32, torch.float64):
        values = relation_difference(student.to(dtype), teacher.to(dtype), metric).tolist()
        expected = [reference(student[b], teacher[b], metric) for b in range(B)]
        assert values == pytest.approx(expected, rel=1e-5)  # float32 rounds the features


@metrics
def test_one_item_and_no_item(metric):
    student, teacher = hidden_states(tokens=1)
    assert relation_difference(student, teacher, metric).tolist() == pytest.approx([0] * B, abs=1e-15)
    student, teacher = hidden_states()
    assert relation_difference(student, teacher, metric, torch.zeros(B, S)).tolist() == [0] * B


@metrics
def test_masked_items_play_no_part(metric):
    student, teacher = hidden_states()
    mask = MASKS["left-padded"]
    expected = relation_difference(student, teacher, metric, mask)
    junk = [side.masked_fill(mask[..., None] == 0, float("nan")) for side in (student, teacher)]
    assert torch.equal(relation_difference(*junk, metric, mask), expected)


@metrics
def test_half_precision_under_autocast(metric):
    half = [side.bfloat16() for side in hidden_states()]
    for mask in ALL_MASKS.values():
        expected = relation_difference(*(side.float() for side in half), metric, mask)
        with torch.autocast("cpu", torch.bfloat16):
            values = relation_difference(*half, metric, mask)
        assert values.dtype == torch.float32 and torch.equal(values, expected)


@metrics
def test_nan_stays_nan(metric):
    student, teacher = hidden_states()
    student[0, 0, 0] = float("nan")
    values = relation_difference(student, teacher, metric)
    assert values[0].isnan() and not values[1:].isnan().any()


@metrics
def test_gradient(metric):
    student, teacher = hidden_states(batch=2, tokens=4)
    assert torch.autograd.gradcheck(lambda x: relation_difference(x, teacher, metric), leaf(student))


def test_what_is_refused():
    student, teacher = hidden_states()
    with pytest.raises(ValueError, match="not 'manhattan'"):
        relation_difference(student, teacher, "manhattan")
    with pytest.raises(ValueError, match=r"not \(5, 6, 3\) and \(5, 4, 4\)"):
        relation_difference(student, teacher[:, :4], "cosine")
    with pytest.raises(ValueError, match="takes features"):
        relation_difference(student[0, 0], teacher[0, 0], "cosine")
