"""MiniLM's two losses against loops in float64, their gradients and invariances, and the edges: zeros, padding, autocast."""

import numpy as np
import pytest
import torch
from references import ALL_MASKS, MASKS, B, S, both_precisions, leaf, masks, normal

from fsd.method.baselines import attention_loss, query_key_loss, value_relation_loss

HEADS = 2


def projections(width, seed, scale=1.5):
    return scale * normal(B, HEADS, S, width, seed=seed)


def attention(seed, mask=None):
    logits = 2 * normal(B, HEADS, S, S, seed=seed)
    if mask is not None:
        logits = logits.masked_fill(mask[:, None, None, :] == 0, -1e9)
    return logits.softmax(dim=-1)


def kl(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def reference(student, teacher, mask=None):
    """Mean over examples of the mean over heads and real rows; the callbacks give a row's distribution over real keys."""
    examples = []
    for b in range(B):
        real = [s for s in range(S) if mask is None or mask[b, s] != 0]
        rows = [kl(teacher(b, h, s, real), student(b, h, s, real)) for h in range(HEADS) for s in real]
        if rows:
            examples.append(np.mean(rows))
    return np.mean(examples)


def rows_of(distributions):
    return lambda b, h, s, real: distributions[b, h, s, real].double().numpy()


def softmax_rows(queries, keys):
    def row(b, h, s, real):
        query, width = queries[b, h, s].double().numpy(), queries.shape[-1]
        scores = np.array([query @ keys[b, h, t].double().numpy() / np.sqrt(width) for t in real])
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()

    return row


@masks
@both_precisions
def test_attention(mask, dtype, tolerance):
    student, teacher = attention(0, mask), attention(1, mask)
    loss = attention_loss(student.to(dtype), teacher.to(dtype), mask)
    assert loss.item() == pytest.approx(reference(rows_of(student), rows_of(teacher), mask), rel=tolerance)
    assert loss.dtype == dtype and loss.shape == ()


@masks
@both_precisions
def test_value_relations(mask, dtype, tolerance):
    student, teacher = projections(3, 0), projections(4, 1)
    loss = value_relation_loss(student.to(dtype), teacher.to(dtype), mask)
    expected = reference(softmax_rows(student, student), softmax_rows(teacher, teacher), mask)
    assert loss.item() == pytest.approx(expected, rel=tolerance)
    assert loss.dtype == dtype and loss.shape == ()


@masks
def test_queries_and_keys_give_the_loss_of_their_attention(mask):
    sides = [projections(3, 0), projections(3, 1), projections(4, 2), projections(4, 3)]
    expected = reference(softmax_rows(*sides[:2]), softmax_rows(*sides[2:]), mask)
    assert query_key_loss(*sides, mask).item() == pytest.approx(expected, rel=1e-10)
    maps = []
    for queries, keys in (sides[:2], sides[2:]):
        logits = queries @ keys.mT / queries.shape[-1] ** 0.5
        maps.append((logits if mask is None else logits.masked_fill(mask[:, None, None, :] == 0, -1e9)).softmax(dim=-1))
    assert attention_loss(*maps, mask).item() == pytest.approx(expected, rel=1e-10)


@masks
def test_gradients(mask):
    teacher, values = attention(1, mask), projections(4, 1)
    softmax = torch.nn.functional.softmax
    assert torch.autograd.gradcheck(lambda z: attention_loss(softmax(z, dim=-1), teacher, mask), leaf(normal(B, HEADS, S, S)))
    assert torch.autograd.gradcheck(lambda v: value_relation_loss(v, values, mask), leaf(projections(3, 0)))
    keys = [projections(4, 2), projections(4, 3)]
    assert torch.autograd.gradcheck(
        lambda q, k: query_key_loss(q, k, *keys, mask), (leaf(projections(3, 0)), leaf(projections(3, 1)))
    )


def test_an_orthogonal_change_of_basis_plays_no_part():
    student, teacher = projections(3, 0), projections(4, 1)
    expected = value_relation_loss(student, teacher).item()
    bases = torch.linalg.qr(normal(HEADS, 3, 3, seed=5))[0]
    assert value_relation_loss(student @ bases, teacher).item() == pytest.approx(expected, rel=1e-10)
    assert value_relation_loss(2 * student, teacher).item() != pytest.approx(expected, rel=1e-3)


def test_equal_sides_cost_nothing():
    student, values = attention(0), projections(3, 0)
    assert attention_loss(student, student.clone()).item() == 0
    assert value_relation_loss(values, values.clone()).item() == 0
    assert attention_loss(student, attention(1)).item() > 0


@pytest.mark.parametrize("junk", [1e4, float("nan"), float("inf")])
def test_masked_tokens_play_no_part(junk):
    mask = MASKS["one token and none"]
    pairs = (mask[:, None, :, None] * mask[:, None, None, :]) == 0
    for loss, sides, hidden in (
        (attention_loss, [attention(0, mask), attention(1, mask)], pairs),
        (value_relation_loss, [projections(3, 0), projections(4, 1)], mask[:, None, :, None] == 0),
    ):
        expected = loss(*sides, mask).item()
        student, teacher = (side.masked_fill(hidden, junk) for side in sides)
        student = leaf(student)
        value = loss(student, teacher, mask)
        value.backward()
        assert value.item() == pytest.approx(expected, rel=1e-12)
        assert torch.isfinite(student.grad).all() and (student.grad.masked_select(hidden) == 0).all()


def test_masked_at_full_and_at_cut_length():
    mask = MASKS["right-padded"]
    longest = int(mask.sum(dim=1).max())
    student, teacher = attention(0, mask), attention(1, mask)
    full = attention_loss(student, teacher, mask).item()
    cut = [side[:, :, :longest, :longest] for side in (student, teacher)]
    assert attention_loss(*cut, mask[:, :longest]).item() == pytest.approx(full, rel=1e-12)
    student, teacher = projections(3, 0), projections(4, 1)
    full = value_relation_loss(student, teacher, mask).item()
    cut = [side[:, :, :longest] for side in (student, teacher)]
    assert value_relation_loss(*cut, mask[:, :longest]).item() == pytest.approx(full, rel=1e-12)


def test_all_padding_costs_nothing():
    for loss, sides in (
        (attention_loss, [attention(0), attention(1)]), (value_relation_loss, [projections(3, 0), projections(4, 1)])
    ):
        student = leaf(sides[0].float())
        value = loss(student, sides[1].float(), torch.zeros(B, S))
        value.backward()
        assert value.item() == 0 and torch.equal(student.grad, torch.zeros_like(student))


def test_probabilities_of_zero():
    teacher = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    student = leaf(torch.tensor([[[[0.25, 0.75], [0.5, 0.5]]]]))
    loss = attention_loss(student, teacher)  # 0 · log 0 is 0
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(0.75) / 2, rel=1e-6) and torch.isfinite(student.grad).all()
    for tiny in (0.0, 1e-42, 1e-30):  # the smallest normal number, 1.2e-38, takes the place of what is below
        student = leaf(torch.tensor([[[[tiny, 1.0], [1.0, tiny]]]]))
        loss = attention_loss(student, teacher)
        loss.backward()
        expected = (np.log(0.5) - 0.5 * np.log(max(tiny, torch.finfo(torch.float32).tiny))) / 2
        assert loss.item() == pytest.approx(expected, rel=1e-5) and torch.isfinite(student.grad).all()
    both = leaf(teacher)
    loss = attention_loss(both, teacher)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(both.grad).all()


def test_extreme_logits_keep_value_and_gradient():
    """Softmax gives exactly 0 here; from the logits the divergence is their gap."""
    values = 30 * torch.eye(2)[None, None]  # V Vᵀ / √2 is 636 on the diagonal
    queries, keys = leaf(values), 30 * torch.tensor([[0.0, 1.0], [1.0, 0.0]])[None, None]
    loss = query_key_loss(queries, keys, values, values)
    loss.backward()
    assert loss.item() == pytest.approx(900 / 2**0.5, rel=1e-6)
    assert torch.isfinite(queries.grad).all() and (queries.grad != 0).any()


def test_numbers_of_heads_must_agree():
    with pytest.raises(ValueError, match="equal numbers of attention heads, not 1 and 2"):
        attention_loss(attention(0)[:, :1], attention(1))
    with pytest.raises(ValueError, match="equal numbers of attention heads, not 2 and 1"):
        value_relation_loss(projections(3, 0), projections(4, 1)[:, :1])


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_under_autocast(half):
    for mask in ALL_MASKS.values():
        maps, values = [attention(seed, mask).to(half) for seed in (0, 1)], [projections(3, seed).to(half) for seed in (0, 1)]
        for loss, sides in ((attention_loss, maps), (value_relation_loss, values)):
            expected = loss(*(side.float() for side in sides), mask)
            student = leaf(sides[0])
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(student, sides[1], mask)
            value.backward()
            assert value.dtype == torch.float32 and value.item() == expected.item()
            assert student.grad.dtype == half and torch.isfinite(student.grad).all()
