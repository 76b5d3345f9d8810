"""Linear CKA against its definition in NumPy, its invariances, and the edges where it has no value of its own.

Tolerances: float64 results agree to 1e-12 (a few hundred additions of numbers of order 1, 1e-16 each); float32 ones to
1e-5 (the same additions at 6e-8 each, with a margin).
"""

import numpy as np
import pytest
import torch

from fsd.method.cka import centered_gram, gram, gram_cka, linear_cka, masked_centered_gram

CONSTANT = {
    "filled with 0.1": torch.full((6, 7), 0.1),  # 0.1 has no exact binary form: its mean may differ from it
    "zeros": torch.zeros(6, 7),
    "one row repeated": torch.randn(1, 7, generator=torch.Generator().manual_seed(0)).repeat(6, 1),
}


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def related(items=12, seed=0):
    """Features of unlike widths 7 and 4 that share some structure: CKA well inside (0, 1)."""
    x = normal(items, 7, seed=seed)
    return x, x[:, :4] @ normal(4, 4, seed=seed + 1) + 0.5 * normal(items, 4, seed=seed + 2)


def reference_cka(x, y):
    """CKA by its definition, with the centring matrix written out."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    h = np.eye(len(x)) - np.ones((len(x), len(x))) / len(x)
    k, l = h @ x @ x.T @ h, h @ y @ y.T @ h  # noqa: E741
    return np.sum(k * l) / np.sqrt(np.sum(k * k) * np.sum(l * l))


@pytest.mark.parametrize("items, seed", [(2, 0), (3, 1), (12, 2), (40, 3)])
def test_definition(items, seed):
    x, y = related(items, seed)
    expected = reference_cka(x, y)
    assert linear_cka(x, y).item() == pytest.approx(expected, abs=1e-12)
    assert linear_cka(x.float(), y.float()).item() == pytest.approx(expected, abs=1e-5)


def test_by_hand():
    # CKA of two single features is their squared correlation: (−1, 0, 1) and (0, 0, 1) correlate by √3/2.
    x, y = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([[0.0], [0.0], [1.0]])
    assert linear_cka(x, y).item() == pytest.approx(0.75, abs=1e-6)


def test_batched_and_broadcast():
    pairs = [[related(5, seed=10 * i + j) for j in range(3)] for i in range(2)]
    x = torch.stack([torch.stack([x for x, _ in row]) for row in pairs])
    y = torch.stack([torch.stack([y for _, y in row]) for row in pairs])
    values = linear_cka(x, y)
    assert values.shape == (2, 3)
    expected = [[reference_cka(*pair) for pair in row] for row in pairs]
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-12)
    first = [[reference_cka(x, pairs[0][0][1]) for x, _ in row] for row in pairs]
    np.testing.assert_allclose(linear_cka(x, y[0, 0]).numpy(), first, atol=1e-12)


def test_one_with_itself():
    x, _ = related()
    assert linear_cka(x, x).item() == pytest.approx(1, abs=1e-12)


def test_gradient():
    x, y = related(5)
    x, y = x.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(linear_cka, (x, y))
    mask = torch.tensor([0, 1, 1, 0, 1])

    def masked(x, y):
        return gram_cka(masked_centered_gram(x, mask), masked_centered_gram(y, mask))

    assert torch.autograd.gradcheck(masked, (x, y))


# What is done to one side, and how far float32 may move: a shift by 1000 rounds the features themselves to 3e-5 of a
# standard deviation, all else only the arithmetic.
CHANGES = {
    "orthogonal transform": (lambda x: x @ torch.linalg.qr(normal(7, 7, seed=5))[0], 1e-5),
    "scale 1e-6": (lambda x: 1e-6 * x, 1e-5),
    "scale 1e6": (lambda x: 1e6 * x, 1e-5),
    "scale 1e-12": (lambda x: 1e-12 * x, 1e-5),  # fourth powers of these two leave float32's range
    "scale 1e12": (lambda x: 1e12 * x, 1e-5),
    "scale -3": (lambda x: -3 * x, 1e-5),
    "shift 1": (lambda x: x + normal(7, seed=6), 1e-5),
    "shift 1000": (lambda x: x + 1000, 1e-4),
    "zero columns": (lambda x: torch.cat([x, torch.zeros(12, 3, dtype=x.dtype)], dim=1), 1e-5),
}


@pytest.mark.parametrize("change, tolerance", CHANGES.values(), ids=CHANGES.keys())
def test_invariant(change, tolerance):
    x, y = related()
    before = reference_cka(x, y)
    assert linear_cka(change(x), y).item() == pytest.approx(before, abs=1e-11)  # the shift by 1000 rounds x to 1e-13
    assert linear_cka(change(x).float(), y.float()).item() == pytest.approx(before, abs=tolerance)
    assert linear_cka(y.float(), change(x).float()).item() == pytest.approx(before, abs=tolerance)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_of_both_sides_under_gradient(scale):
    x, y = (side.float() for side in related())
    scaled = (scale * x).requires_grad_()
    linear_cka(scaled, scale * y).backward()
    plain = x.clone().requires_grad_()
    linear_cka(plain, y).backward()
    # CKA(s·x) = CKA(x), so its gradient is 1/s of the one at x; float32 rounding beside entries of order 0.01
    torch.testing.assert_close(scaled.grad * scale, plain.grad, atol=1e-6, rtol=1e-4)


def test_permutation_of_items():
    x, y = related()
    order = torch.from_numpy(np.random.default_rng(3).permutation(12))
    assert linear_cka(x[order], y[order]).item() == pytest.approx(linear_cka(x, y).item(), abs=1e-12)
    assert abs(linear_cka(x[order], y).item() - linear_cka(x, y).item()) > 0.01  # items belong together


def test_large_common_offset_in_float32():
    x, y = related()
    x, y = (x + 1e3).float(), (y - 1e3).float()
    # against float64 on the very same rounded numbers: what is left is the arithmetic, not the input's rounding
    assert linear_cka(x, y).item() == pytest.approx(reference_cka(x, y), abs=1e-5)


@pytest.mark.parametrize("constant", CONSTANT.values(), ids=CONSTANT.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_features(constant, dtype):
    constant = constant.to(dtype).requires_grad_()
    other = normal(6, 3, dtype=dtype).requires_grad_()
    for x, y in ((constant, other), (other, constant), (constant, constant)):
        value = linear_cka(x, y)
        assert value.item() == 0
        gradients = torch.autograd.grad(-torch.log(value + 1e-8), [x, y] if x is not y else [x])
        assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


def test_one_item_is_no_structure():
    x = normal(1, 5).requires_grad_()
    value = linear_cka(x, normal(1, 3, seed=1))
    value.backward()
    assert value.item() == 0 and torch.equal(x.grad, torch.zeros_like(x))


def test_unrelated_structures_are_never_negative():
    # x and y span orthogonal spaces, so CKA is 0; in float32 the products' rounding has either sign, up to 1e-7,
    # and −log of a value below −1e-8 is NaN.
    for seed in range(50):
        space = torch.linalg.qr(torch.cat([torch.ones(12, 1, dtype=torch.float64), normal(12, 4, seed=seed)], dim=1))[0]
        value = linear_cka((5 * space[:, 1:3]).float(), space[:, 3:5].float()).item()
        assert 0 <= value < 1e-6


def test_noise_saturates():
    """The biased estimator on far more features than items: independent noise looks alike. Known, and kept."""
    x, y = normal(32, 20000, seed=0, dtype=torch.float32), normal(32, 20000, seed=1, dtype=torch.float32)
    assert 0.99 < linear_cka(x, y).item() < 1
    # E⟨K, L⟩ / (‖K‖ ‖L‖) of noise is near 31 / (31 + 31² / P), 31 being the degrees of freedom that centring leaves;
    # a single draw of 496 off-diagonal products strays by about 1/√(31 · P) of it
    assert linear_cka(x, y).item() == pytest.approx(31 / (31 + 31**2 / 20000), abs=1e-3)
    assert linear_cka(x[:, :4], y[:, :4]).item() < 0.4


def test_precision_of_inputs():
    x, y = related()
    half = x.bfloat16(), y.bfloat16()
    value = linear_cka(*half)
    assert value.dtype == torch.float32
    assert linear_cka(x, y).dtype == torch.float64
    assert value.item() == linear_cka(half[0].float(), half[1].float()).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert linear_cka(*half).item() == value.item()  # to the bit: no product runs in bfloat16
        assert linear_cka(x.float(), y.float()).item() == pytest.approx(reference_cka(x, y), abs=1e-5)


@pytest.mark.parametrize("x, y", [((5, 3), (4, 3)), ((5,), (5, 3)), ((2, 5, 3), (2, 4, 3))])
def test_unmatched_shapes(x, y):
    with pytest.raises(ValueError, match=r"linear_cka takes x \[\.\.\., N, P\]"):
        linear_cka(torch.zeros(x), torch.zeros(y))


MASKS = {
    "right-padded": [1, 1, 1, 1, 0, 0],
    "left-padded": [0, 0, 1, 1, 1, 1],
    "scattered": [0, 1, 0, 1, 1, 0],
    "full": [1, 1, 1, 1, 1, 1],
    "one item": [0, 0, 1, 0, 0, 0],
    "none": [0, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float32])
def test_masked_gram(mask, kind):
    mask = torch.tensor(mask)
    kept = mask.bool()
    x = normal(6, 5)
    gram = masked_centered_gram(x, mask.to(kind))
    expected = torch.zeros(6, 6, dtype=torch.float64)
    if kept.any():
        expected[kept.nonzero(), kept.nonzero().T] = centered_gram(x[kept])
    torch.testing.assert_close(gram, expected, atol=1e-12, rtol=0)


def test_masked_gram_ignores_what_stands_in_masked_positions():
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1]])
    clean = normal(2, 4, 3)
    for junk in (1e30, float("nan"), float("inf")):
        dirty = clean.masked_fill(mask[..., None] == 0, junk).requires_grad_()
        gram = masked_centered_gram(dirty, mask)
        assert torch.equal(gram, masked_centered_gram(clean, mask))
        (gradient,) = torch.autograd.grad(gram.square().sum(), dirty)
        assert torch.isfinite(gradient).all() and (gradient[mask == 0] == 0).all() and gradient.abs().sum() > 0


def test_masked_gram_of_constant_features_is_zero():
    gram = masked_centered_gram(torch.full((2, 6, 4), 0.1), torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]]))
    assert torch.equal(gram, torch.zeros(2, 6, 6))


def test_second_derivatives_and_function_transforms():
    x, y = normal(3, 5, 4).requires_grad_(), normal(3, 5, 2, seed=1)
    assert torch.autograd.gradgradcheck(gram, (x,))
    (expected,) = torch.autograd.grad(linear_cka(x, y).sum(), x)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(linear_cka))(x.detach(), y), expected)
