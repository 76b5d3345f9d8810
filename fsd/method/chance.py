"""What the biased CKA says by chance: its level for features that have nothing to do with each other."""

import torch

from fsd.method.cka import FEWEST_DEBIASED, centered_gram, debiased_center, gram_cka, scaled
from fsd.method.shapes import check_items

SHUFFLES = 8


def chance_cka(x, y):
    """The level of :func:`fsd.linear_cka` for features like x and y that are unrelated: 1 / √((1 + N/d_X)(1 + N/d_Y)).

    d = (tr Σ)² / tr Σ² is the effective dimension of one side, with the covariance Σ of its features.

    Args:
        x: features [..., N, P].
        y: features [..., N, Q]; its leading dimensions equal x's or broadcast with them.

    Returns:
        [...] in [0, 1], in float32 or the inputs' higher precision; 0 if x or y has no variance. tr Σ² is estimated without
        bias, which takes four items. With fewer, d counts as infinite, and the level is 1: with two, CKA is always 1.

    Raises:
        ValueError: the inputs differ in N, or one has fewer than two dimensions.

    Source: the means of ⟨K, L⟩ and ‖K‖² for Gaussian features; tr Σ² is the unbiased HSIC of the features with themselves
    (Song et al. 2012). The sample covariance's own tr Σ² is far too large with fewer items than features.
    """
    check_items("chance_cka", x, y)
    with torch.autocast(x.device.type, enabled=False):
        return gram_chance(centered_gram(x), centered_gram(y))


def gram_chance(gram_x, gram_y, mask=None):
    """:func:`chance_cka` of two centred Gram matrices [..., N, N]; the items are those where mask [..., N] is nonzero."""
    return _share(gram_x, mask) * _share(gram_y, mask)


def shuffled_cka(gram_x, gram_y, debiased=False, mask=None):
    """:func:`fsd.method.cka.gram_cka` with y's items in another order, which parts the pairs: the mean over eight orders.

    The orders are always the same, and no other random stream is used. Items where mask [..., N] is zero stay apart.
    """
    real = torch.ones(gram_y.shape[:-1], dtype=torch.bool, device=gram_y.device) if mask is None else mask != 0
    generator, ckas = torch.Generator().manual_seed(0), []
    places = (~real).byte().argsort(dim=-1, stable=True)  # items that count come first
    for _ in range(SHUFFLES):
        keys = torch.rand(real.shape, generator=generator).to(real.device)
        order = torch.empty_like(places).scatter_(-1, places, (keys + ~real).argsort(dim=-1))
        rows = order[..., :, None].expand(gram_y.shape)
        shuffled = gram_y.gather(-2, rows).gather(-1, rows.mT)
        ckas.append(gram_cka(gram_x, shuffled, debiased, mask))
    return torch.stack(ckas).mean(dim=0)


def _share(gram, mask):
    """One side's factor 1 / √(1 + n/d), from its centred Gram matrix [..., N, N]."""
    items = torch.full((), gram.shape[-1], device=gram.device) if mask is None else (mask != 0).sum(dim=-1)
    n = items.clamp(min=FEWEST_DEBIASED)
    # Over its trace, the Gram matrix belongs to features of tr Σ = 1 / (n − 1).
    trace_of_square = debiased_center(scaled(gram), mask).square().sum(dim=(-2, -1)) / (n * (n - 3))
    share = (1 + n * (n - 1) ** 2 * trace_of_square).rsqrt()
    return torch.where(gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1) == 0, 0, share)  # NaN stays
