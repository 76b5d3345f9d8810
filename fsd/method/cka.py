"""Linear centered kernel alignment (CKA), which every structure loss uses; the paper's Eq. 4 and 5."""

import torch


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


def gram_cka(gram_x, gram_y):
    """CKA of two centred Gram matrices [..., N, N]: ⟨K, L⟩ / (‖K‖ ‖L‖), [...]; 0 if K or L is zero."""
    gram_x, gram_y = _scaled(gram_x), _scaled(gram_y)
    cka = (gram_x * gram_y).sum(dim=(-2, -1)) / (_norm(gram_x) * _norm(gram_y))
    return cka.clamp(min=0)  # rounding can give a value below 0, whose log is NaN


def linear_cka(x, y):
    """Linear CKA between two sets of features of the same N items.

    Args:
        x: features [..., N, P].
        y: features [..., N, Q]; its leading dimensions equal x's or broadcast with them.

    Returns:
        [...] in [0, 1] up to rounding, in float32 or the inputs' higher precision. Rotating, scaling or shifting x or y
        does not change it. If x or y has no variance, or N < 2, the CKA and its gradient are 0.

    Raises:
        ValueError: the inputs differ in N, or one has fewer than two dimensions.

    Source: the paper's Eq. 4 and 5, from Kornblith et al. 2019 (arXiv 1905.00414), section 3; the biased estimator, as in
    the released code.
    """
    if x.dim() < 2 or y.dim() < 2 or x.shape[-2] != y.shape[-2]:
        raise ValueError(f"linear_cka takes x [..., N, P] and y [..., N, Q], not {tuple(x.shape)} and {tuple(y.shape)}")
    with torch.autocast(x.device.type, enabled=False):
        return gram_cka(centered_gram(x), centered_gram(y))


def _scaled(gram):
    # CKA does not depend on the scale. Without this division the squares could overflow or underflow float32.
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1).detach()[..., None, None]
    return gram / torch.where(trace > 0, trace, 1)


def _norm(gram):
    squared = (gram * gram).sum(dim=(-2, -1))
    return torch.where(squared > 0, squared, 1).sqrt()
