"""Relations between the items of one set of features, and how far those of the student are from the teacher's."""

import torch

from fsd.method.cka import gram
from fsd.method.losses import as_loss, zero_padding
from fsd.method.similarity import structure_gram

METRICS = ("euclidean", "cosine")
RELATIONS = tuple(f"{place}_{metric}" for place in ("inter", "intra") for metric in METRICS)


def relation_difference(student, teacher, metric, mask=None):
    """The relation difference: mean over all N² pairs of items of |ψ(t_i, t_j) − ψ(s_i, s_j)|.

    Args:
        student: features [..., N, P]. teacher: features [..., N, Q] of the same items. Between examples (RD_inter), the items
            are the examples with their flattened features; inside of examples (RD_intra), the tokens of each example.
        metric: what ψ is: "euclidean", the distance, or "cosine", the cosine similarity, which is 0 where a vector is zero.
        mask: [..., N], nonzero where an item counts; the mean is then over the pairs of these (0 without any). None counts all.

    Returns:
        [...], in float32 or the student's higher precision.

    Raises:
        ValueError: another metric, the inputs differ in more than their widths, or the mask is not [..., N] as they are.

    Source: the paper's Eq. 12 and 13.
    """
    if metric not in METRICS:
        raise ValueError(f'the metric is "euclidean" or "cosine", not {metric!r}')
    items = student.shape[:-1]
    if student.dim() < 2 or teacher.shape[:-1] != items or mask is not None and mask.shape != items:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}" + (f" with {tuple(mask.shape)}" if mask is not None else "")
        raise ValueError(f"relation_difference takes features [..., N, P] and [..., N, Q] and a mask [..., N], not {shapes}")
    relation = _distances if metric == "euclidean" else _cosines
    with torch.autocast(student.device.type, enabled=False):
        difference = (relation(teacher, mask) - relation(student, mask)).abs()
        if mask is not None:
            real = mask != 0
            difference = difference.masked_fill(~(real[..., :, None] & real[..., None, :]), 0)
            mean = difference.sum(dim=(-2, -1)) / real.sum(dim=-1).clamp(min=1).square()
        else:
            mean = difference.mean(dim=(-2, -1))
        return as_loss(mean, student)


def relation_differences(student_hidden, teacher_hidden, mask=None):
    """The paper's four relation differences of a batch, in the order of ``RELATIONS``: {"inter_…": scalar, "intra_…": [B]}.

    Args:
        student_hidden: [B, S, d_S]. teacher_hidden: [B, S, d_T].
        mask: [B, S], zero at padding: its features are zero between examples, and no items inside of them. None counts all.

    Source: the paper's Eq. 12 (between examples) and 13 (inside of each example).
    """
    flat = zero_padding(student_hidden, mask).flatten(1), zero_padding(teacher_hidden, mask).flatten(1)
    inter = [relation_difference(*flat, metric) for metric in METRICS]
    intra = [relation_difference(student_hidden, teacher_hidden, metric, mask) for metric in METRICS]
    return dict(zip(RELATIONS, inter + intra, strict=True))


def pairwise_distances(products):
    """Euclidean distances [..., N, N] from the centred Gram matrix [..., N, N], in float64.

    A distance below a millionth of the largest is 0, and so is its gradient: it cannot be told from rounding. (Of 33 examples
    with 98,304 features, equal ones came out at 2e-7 of the largest.)
    """
    norms = products.diagonal(dim1=-2, dim2=-1)
    squared = norms[..., :, None] + norms[..., None, :] - 2 * products
    zero = squared <= 1e-12 * squared.amax(dim=(-2, -1), keepdim=True)
    return torch.where(zero, 0, torch.where(zero, 1, squared).sqrt())


# Both in float64: a distance is a small difference of large products, and float32 would keep few of its digits.


def _distances(features, mask):
    return pairwise_distances(structure_gram(features.double(), mask=mask))


def _cosines(features, mask):
    features = features.double()
    if mask is not None:
        features = features.masked_fill(mask[..., None] == 0, 0)
    products = gram(features)
    norms = torch.linalg.vector_norm(features, dim=-1)
    norms = norms[..., :, None] * norms[..., None, :]
    return torch.where(norms == 0, 0, products / torch.where(norms == 0, 1, norms))
