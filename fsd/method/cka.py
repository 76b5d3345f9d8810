"""Linear centered kernel alignment (CKA), which every structure loss uses; the paper's Eq. 4 and 5."""

import torch

from fsd.method.shapes import check_items

FEWEST_DEBIASED = 4  # items: the unbiased HSIC divides by n(n − 3)


def at_least_float32(x):
    """x in float32; unchanged if its precision is higher."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _Gram(torch.autograd.Function):
    """X Xᵀ of X [..., N, P]. Its backward uses the symmetry and needs one product; autograd would need two."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x @ x.mT

    @staticmethod
    def setup_context(context, inputs, output):
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return (gradient + gradient.mT) @ x


def gram(x):
    """X Xᵀ of x [..., N, P]: [..., N, N]."""
    return _Gram.apply(x)


def center(products):
    """H G H for G [..., N, N] and the centring matrix H: subtracts the means of the rows and of the columns."""
    means = products.mean(dim=-1, keepdim=True)
    return products - means - means.mT + means.mean(dim=-2, keepdim=True)


def centered_gram(x):
    """Centred Gram matrix H X Xᵀ H of x [..., N, P]: [..., N, N], in float32 or x's higher precision.

    The first item is subtracted before the product. This does not change the result, but it avoids rounding errors when
    the features share a large offset, and gives exactly zero for constant features.
    """
    x = at_least_float32(x)
    x = x - x[..., :1, :].detach()
    return center(gram(x))


def masked_centered_gram(x, mask):
    """:func:`centered_gram` over the items where mask [..., N] is nonzero; all other rows and columns are zero."""
    mask = mask.bool()
    x = at_least_float32(x)
    first = mask.to(torch.uint8).argmax(dim=-1)[..., None, None].expand(*x.shape[:-2], 1, x.shape[-1])
    x = (x - x.gather(-2, first).detach()).masked_fill(~mask[..., None], 0)
    products = gram(x)
    count = mask.sum(dim=-1).clamp(min=1)[..., None, None]
    means = products.sum(dim=-1, keepdim=True) / count
    centered = products - means - means.mT + means.sum(dim=-2, keepdim=True) / count
    return centered * (mask[..., :, None] & mask[..., None, :])


def debiased_center(products, mask=None):
    """The matrices whose products are the unbiased HSIC: ⟨K, L⟩ / (n(n − 3)) for these K and L, [..., N, N].

    Args:
        products: Gram matrices [..., N, N], centred or not: this makes no difference.
        mask: [..., N], nonzero where an item counts; rows and columns of the other items are zero, before and after. None
            counts all. n is the number of items that count; with fewer than four, the result is zero.

    Source: Song et al. 2012 (JMLR 13), Eq. 5, as the product of two centred matrices: Székely and Rizzo 2014, Eq. 3.1.
    """
    size = products.shape[-1]
    real = torch.ones(size, dtype=torch.bool, device=products.device) if mask is None else mask != 0
    pairs = real[..., :, None] & real[..., None, :] & ~torch.eye(size, dtype=torch.bool, device=products.device)
    count = real.sum(dim=-1)[..., None, None]
    others = products.masked_fill(~pairs, 0)
    n = count.clamp(min=FEWEST_DEBIASED)
    means = others.sum(dim=-1, keepdim=True) / (n - 2)
    centered = others - means - means.mT + means.sum(dim=-2, keepdim=True) / (n - 1)
    return centered.masked_fill(~(pairs & (count >= FEWEST_DEBIASED)), 0)


def gram_cka(gram_x, gram_y, debiased=False, mask=None):
    """CKA of two centred Gram matrices [..., N, N]: ⟨K, L⟩ / (‖K‖ ‖L‖), [...]; 0 if K or L is zero.

    ``debiased`` takes :func:`debiased_center` of K and L; ``mask`` [..., N] then says which items count. Without it, the
    rows of the others are zero, which is enough.
    """
    gram_x, gram_y = scaled(gram_x), scaled(gram_y)
    if not debiased:
        cka = (gram_x * gram_y).sum(dim=(-2, -1)) / (_norm(gram_x) * _norm(gram_y))
        return cka.clamp(min=0)  # rounding can give a value below 0, whose log is NaN
    gram_x, gram_y = debiased_center(gram_x, mask), debiased_center(gram_y, mask)
    # The trace is 1, so a smaller norm than this is rounding alone. It counts as no variance.
    floor = 100 * torch.finfo(gram_x.dtype).eps
    return (gram_x * gram_y).sum(dim=(-2, -1)) / (_norm(gram_x, floor) * _norm(gram_y, floor))


def linear_cka(x, y, debiased=False):
    """Linear CKA between two sets of features of the same N items.

    Args:
        x: features [..., N, P].
        y: features [..., N, Q]; its leading dimensions equal x's or broadcast with them.
        debiased: take the unbiased estimator of HSIC. The value is then 0 on average for unrelated features, and negative
            for some; with the biased one, it nears 1 for any features that are many more than the items.

    Returns:
        [...] in [0, 1] up to rounding, or up to 1 if debiased; in float32 or the inputs' higher precision. Rotating, scaling
        or shifting x or y does not change it, as long as float32 holds the squares of the features. If x or y has no variance,
        or N < 2 (debiased: N < 4), the CKA and its gradient are 0. Memory is needed for a few matrices [..., N, N].

    Raises:
        ValueError: the inputs differ in N, or one has fewer than two dimensions.

    Source: the paper's Eq. 4 and 5, from Kornblith et al. 2019 (arXiv 1905.00414), section 3; the biased estimator, as in
    the released code. Debiased: Murphy et al. 2024 (arXiv 2405.01012), with the HSIC of Song et al. 2012 (JMLR 13), Eq. 5.
    """
    check_items("linear_cka", x, y)
    with torch.autocast(x.device.type, enabled=False):
        return gram_cka(centered_gram(x), centered_gram(y), debiased)


def scaled(gram):
    """Gram matrices [..., N, N] over their trace, which gets no gradient. Zero stays zero."""
    # CKA does not depend on the scale. Without this division the squares could overflow or underflow float32.
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1).detach()[..., None, None]
    return gram / torch.where(trace > 0, trace, 1)


def _norm(gram, floor=0.0):
    squared = (gram * gram).sum(dim=(-2, -1))
    return torch.where(squared > floor**2, squared, 1).sqrt()
