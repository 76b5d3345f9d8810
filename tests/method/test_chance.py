"""What CKA says by chance: the formula against simulated unrelated features, and pairs that are shuffled."""

import numpy as np
import pytest
import torch
from references import hidden_states
from test_cka import CONSTANT, normal, related

from fsd import chance_cka, linear_cka
from fsd.method.chance import gram_chance, shuffled_cka
from fsd.method.cka import centered_gram, gram_cka, masked_centered_gram


def reference_share(x):
    """1 / √(1 + n/d), with tr Σ² as the mean of ⟨x_i − x_j, x_k − x_l⟩² / 4 over all four different items."""
    n, values = len(x), []
    for i, j, k, l in np.ndindex(n, n, n, n):  # noqa: E741
        if len({i, j, k, l}) == 4:
            values.append(((x[i] - x[j]) @ (x[k] - x[l])) ** 2 / 4)
    trace = x.var(axis=0, ddof=1).sum()
    return 1 / np.sqrt(1 + n * np.mean(values) / trace**2)


@pytest.mark.parametrize("items", [4, 6])
def test_definition(items):
    x, y = related(items)
    expected = reference_share(x.numpy()) * reference_share(y.numpy())
    assert chance_cka(x, y).item() == pytest.approx(expected, rel=1e-10)
    assert chance_cka(x.float(), y.float()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("items, width, decay, level", [(32, 3000, 0, 0.990), (128, 768, 0, 0.857), (128, 768, 0.25, 0.759)])
def test_unrelated_features_have_this_level(items, width, decay, level):
    spectrum = torch.arange(1, width + 1, dtype=torch.float64) ** -decay
    x, y = (normal(4, items, width, seed=seed) * spectrum for seed in (0, 1))
    found, seen = chance_cka(x, y).mean().item(), linear_cka(x, y).mean().item()
    assert found == pytest.approx(level, abs=2e-3) and found == pytest.approx(seen, abs=2e-3)
    # The sample covariance has at most n − 1 directions, and says much less.
    gram = centered_gram(x[0])
    own = gram.trace() ** 2 / gram.square().sum()
    assert 1 / (1 + items / own) < 0.5


def test_related_features_do_not_change_it():
    x, _ = related(40)
    assert chance_cka(x, x).item() == pytest.approx(chance_cka(x, x.flip(0)).item(), rel=1e-12)
    assert chance_cka(x, x) < 0.5 < linear_cka(x, x)
    assert chance_cka(1e6 * x + 3, x).item() == pytest.approx(chance_cka(x, x).item(), rel=1e-6)


def test_batched():
    x, y = normal(3, 1, 6, 5), normal(2, 6, 4, seed=1)
    values = chance_cka(x, y)
    assert values.shape == (3, 2) and values[2, 1].item() == pytest.approx(chance_cka(x[2, 0], y[1]).item(), rel=1e-12)


def test_edges():
    other = normal(6, 3)
    for constant in CONSTANT.values():
        assert chance_cka(constant.double(), other).item() == 0 and chance_cka(other, constant.double()).item() == 0
    for items, level in ((1, 0), (2, 1), (3, 1)):
        assert chance_cka(normal(items, 5), normal(items, 4, seed=1)).item() == level
    with pytest.raises(ValueError, match=r"chance_cka takes x \[\.\.\., N, P\]"):
        chance_cka(other, other[:4])


def grams(mask):
    student, teacher = hidden_states(tokens=8)
    return masked_centered_gram(teacher, mask), masked_centered_gram(student, mask)


MASK = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [0] * 4 + [1] * 4, [0, 1] * 4, [1] * 6 + [0] * 2])


def test_masked_equals_cut():
    student, teacher = hidden_states(tokens=8)
    expected = [chance_cka(teacher[b, kept], student[b, kept]).item() for b, kept in enumerate(MASK.bool())]
    assert gram_chance(*grams(MASK), MASK).tolist() == pytest.approx(expected, rel=1e-10)


def test_shuffled_pairs():
    x = normal(24, 60)
    y = x @ normal(60, 40, seed=1)
    pair = centered_gram(x), centered_gram(y)
    state = torch.get_rng_state()
    level = shuffled_cka(*pair)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(level, shuffled_cka(*pair))
    assert level.item() == pytest.approx(gram_chance(*pair).item(), abs=0.03) and level < gram_cka(*pair) - 0.1
    assert abs(shuffled_cka(*pair, debiased=True).item()) < 0.1


def test_shuffling_keeps_to_the_items_that_count():
    teacher, student = grams(MASK)
    ones = masked_centered_gram(torch.eye(8, dtype=torch.float64).expand(5, 8, 8), MASK)
    for debiased in (False, True):
        # The Gram matrix of the identity is the same in every order of the items that count, and only in those.
        expected = gram_cka(teacher, ones, debiased, MASK)
        torch.testing.assert_close(shuffled_cka(teacher, ones, debiased, MASK), expected)
    values = shuffled_cka(teacher, student, False, MASK)
    assert values.shape == (5,) and (values[[0, 1, 4]] < gram_cka(teacher, student)[[0, 1, 4]]).all()


def test_nan_is_no_level_of_chance():
    x = normal(8, 5).float()
    x[2, 1] = torch.nan
    assert chance_cka(x, normal(8, 5)).isnan() and chance_cka(torch.full((8, 5), torch.inf), normal(8, 5)).isnan()
