"""What may stand in CKA's place in the structures: the Procrustes distance, and the distance of the Gram matrices.

Unlike CKA, both see the scale of the features: they are 0 only for features that are equal up to a rotation and a shift.
"""

import torch

from fsd.method.cka import FEWEST_DEBIASED, centered_gram, gram_cka, masked_centered_gram
from fsd.method.shapes import check_items

SIMILARITIES = ("cka", "procrustes", "gram")
LOG_FLOOR = 1e-8  # inside every logarithm of a CKA (released code)


def procrustes_distance(x, y):
    """Squared Procrustes distance (‖X‖² + ‖Y‖² − 2 ‖XᵀY‖_*) / ‖Y‖² between two sets of centred features of the same N items.

    This is how far X stays from Y after the best rotation, as a share of ‖Y‖². ‖·‖_* is the nuclear norm, the sum of the
    singular values. Those of zero get no gradient.

    Args:
        x: features [..., N, P], of the student.
        y: features [..., N, Q], of the teacher; its leading dimensions equal x's or broadcast with them.

    Returns:
        [...] of at least 0, in float32 or the inputs' higher precision. Rotating or shifting x or y does not change it, scaling
        does. It is 1 if x has no variance, and 0 with zero gradient if y has none.

    Raises:
        ValueError: the inputs differ in N, or one has fewer than two dimensions.

    Source: Schönemann 1966, normalised by the teacher's size; for networks, Bhattarai et al. 2025 (arXiv 2509.25253).
    """
    check_items("procrustes_distance", x, y)
    with torch.autocast(x.device.type, enabled=False):
        value = _procrustes(structure_gram(x, "procrustes"), structure_gram(y, "procrustes"))
        return value.to(torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32))


def gram_distance(x, y):
    """Distance ‖XXᵀ − YYᵀ‖_F / ‖YYᵀ‖_F of the Gram matrices of two sets of centred features of the same N items.

    Args, returns and raises: as :func:`procrustes_distance`. Its gradient where both matrices are equal is 0.

    Source: Bhattarai et al. 2025 (arXiv 2509.25253), as a share of the teacher's Gram matrix.
    """
    check_items("gram_distance", x, y)
    with torch.autocast(x.device.type, enabled=False):
        return _gram_difference(structure_gram(x, "gram"), structure_gram(y, "gram"))


def structure_gram(features, similarity="cka", mask=None):
    """The centred Gram matrix [..., N, N] of features [..., N, P] in the precision that the similarity needs.

    Rows and columns of items where mask [..., N] is zero are zero.
    """
    if similarity == "procrustes":  # its singular values are roots of the Gram matrix's, and float32 would keep few digits
        features = features.double()
    return centered_gram(features) if mask is None else masked_centered_gram(features, mask)


def structure_term(student_gram, teacher_gram, similarity="cka", debiased=False, mask=None):
    """What a structure costs, [...], from the centred Gram matrices [..., N, N] of both sides.

    Args:
        similarity: "cka" gives −log(CKA + 1e-8), "procrustes" and "gram" give that distance.
        debiased: with "cka", give 1 − CKA with the debiased CKA.
        mask: [..., N], nonzero where an item counts; rows and columns of the others are zero.
    """
    if similarity == "procrustes":
        return _procrustes(student_gram, teacher_gram)
    if similarity == "gram":
        return _gram_difference(student_gram, teacher_gram)
    return cka_loss(gram_cka(teacher_gram, student_gram, debiased, mask), debiased)


def cka_loss(cka, debiased=False):
    """−log(cka + 1e-8), of the shape of ``cka``: how Eq. 6 to 8 turn a CKA into a loss. 1 − cka if debiased: it may be < 0."""
    return 1 - cka if debiased else -torch.log(cka + LOG_FLOOR)


def check_forms(similarity, debiased, released=False):
    """ValueError for a similarity that is none, and for forms of CKA beside another one or beside each other."""
    if similarity not in SIMILARITIES:
        raise ValueError(f"the similarity is one of {', '.join(SIMILARITIES)}, not {similarity!r}")
    if released and debiased:
        raise ValueError("released and debiased exclude each other: the released code has the biased CKA")
    if similarity != "cka" and (released or debiased):
        raise ValueError(f"{'released' if released else 'debiased'} is a form of CKA, and the similarity is {similarity}")


def fewest_items(debiased=False):
    """The fewest items that have a structure: two, or four if the CKA is debiased."""
    return FEWEST_DEBIASED if debiased else 2


def safe_sqrt(squared):
    """Square roots, where those of zero and of numbers that rounding took below it are 0 and get no gradient."""
    zero = squared <= 0  # not for NaN, which stays
    return torch.where(zero, 0, torch.where(zero, 1, squared).sqrt())


def _procrustes(gram_x, gram_y):
    size_x, size_y = _trace(gram_x), _trace(gram_y)
    distance = (size_x + size_y - 2 * _nuclear_norm(gram_x, gram_y)).clamp(min=0)  # rounding may take it below
    return torch.where(size_y > 0, distance / torch.where(size_y > 0, size_y, 1), 0 * distance)


def _nuclear_norm(gram_x, gram_y):
    """‖XᵀY‖_* of the features of K = XXᵀ and L = YYᵀ: the sum of the roots of the eigenvalues of L^½ K L^½."""
    # eigh raises for NaN. The training loop tells of it better, so it goes through.
    finite = torch.isfinite(gram_x).all(dim=-1).all(dim=-1) & torch.isfinite(gram_y).all(dim=-1).all(dim=-1)
    k, l = (torch.where(finite[..., None, None], gram, 0).double() for gram in (gram_x, gram_y))  # noqa: E741
    norm = _root_sum(k, l.detach())
    if gram_y.requires_grad:  # the same number the other way round, for its gradient alone
        other = _root_sum(l, k.detach())
        norm = norm + other - other.detach()
    return torch.where(finite, norm, torch.nan).to(gram_x.dtype)


def _root_sum(moving, fixed):
    """The sum of the singular values, as a function of ``moving`` alone: no derivative of a root of a matrix is taken."""
    values, vectors = torch.linalg.eigh(fixed)
    root = (vectors * safe_sqrt(_without_rounding(values))[..., None, :]) @ vectors.mT
    return safe_sqrt(_without_rounding(torch.linalg.eigvalsh(root @ moving @ root))).sum(dim=-1)


def _without_rounding(values):
    """Ascending eigenvalues [..., N] with zeros for those that are no more than rounding."""
    floor = values.shape[-1] * torch.finfo(values.dtype).eps * values[..., -1:].detach()
    return torch.where(values > floor, values, 0)


def _gram_difference(gram_x, gram_y):
    size = _trace(gram_y).detach()  # the ratio does not depend on it, but squares could overflow or underflow float32
    scale = torch.where(size > 0, size, 1)[..., None, None]
    gram_x, gram_y = gram_x / scale, gram_y / scale
    difference, norm = (safe_sqrt(gram.square().sum(dim=(-2, -1))) for gram in (gram_x - gram_y, gram_y))
    return torch.where(norm > 0, difference / torch.where(norm > 0, norm, 1), 0 * difference)


def _trace(gram):
    return gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
