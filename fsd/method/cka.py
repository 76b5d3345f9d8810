"""Linear centered kernel alignment (Kornblith et al. 2019, arXiv 1905.00414), on which every structure loss stands."""

import torch


def at_least_float32(x):
    """x in float32, or as it is where its precision is higher."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _Gram(torch.autograd.Function):
    """X Xᵀ of X [..., N, P], with one product in backward where autograd, not knowing the symmetry, takes two."""

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
    """H G H of products G [..., N, N] with the centring matrix H: the rows' and the columns' means are taken off."""
    means = products.mean(dim=-1, keepdim=True)
    return products - means - means.mT + means.mean(dim=-2, keepdim=True)


def centered_gram(x):
    """Centred Gram matrix H X Xᵀ H of x [..., N, P]: [..., N, N], in float32 or in x's own higher precision.

    Subtracting the first item before the product leaves the centred Gram as it is. It keeps the products small where
    the features have a large common offset, and makes those of constant features exactly zero.
    """
    x = at_least_float32(x)
    x = x - x[..., :1, :].detach()
    return center(gram(x))


def masked_centered_gram(x, mask):
    """As :func:`centered_gram`, over the items where mask [..., N] is nonzero; rows and columns of others are zero."""
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
    """CKA of two centred Gram matrices [..., N, N]: ⟨K, L⟩ / (‖K‖ ‖L‖), [...]; 0 where either is zero."""
    gram_x, gram_y = _scaled(gram_x), _scaled(gram_y)
    cka = (gram_x * gram_y).sum(dim=(-2, -1)) / (_norm(gram_x) * _norm(gram_y))
    return cka.clamp(min=0)  # rounding takes unrelated structures below 0, where −log would be NaN


def linear_cka(x, y):
    """Linear CKA between two sets of features of the same N items.

    Args:
        x: features [..., N, P].
        y: features [..., N, Q]; leading dimensions as x's (or broadcastable), widths may differ.

    Returns:
        [...] in [0, 1] up to rounding, float32 or the inputs' own higher precision. It does not change under
        orthogonal transforms, isotropic scaling or shifts of either side. Where either side has no variance (or
        fewer than two items) it is 0 with zero gradient.

    Raises:
        ValueError: the numbers of items differ, or an input has fewer than two dimensions.

    Source: Kornblith et al. 2019, section 3; the biased estimator, as in the released code.
    """
    if x.dim() < 2 or y.dim() < 2 or x.shape[-2] != y.shape[-2]:
        raise ValueError(f"linear_cka takes x [..., N, P] and y [..., N, Q], not {tuple(x.shape)} and {tuple(y.shape)}")
    with torch.autocast(x.device.type, enabled=False):
        return gram_cka(centered_gram(x), centered_gram(y))


def _scaled(gram):
    # CKA does not depend on the scale; without it, the squares below leave float32's range for large or tiny features.
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1).detach()[..., None, None]
    return gram / torch.where(trace > 0, trace, 1)


def _norm(gram):
    squared = (gram * gram).sum(dim=(-2, -1))
    return torch.where(squared > 0, squared, 1).sqrt()
