"""The losses of the methods that the paper compares with: PKD, RKD and MiniLM. Each returns a scalar tensor.

Shapes: B examples, S tokens, hidden sizes d_S of the student and d_T of the teacher. Everything is computed in float32, or
in higher precision, even under autocast. The caller computes the teacher's tensors without gradient.
"""

import torch
from torch.nn import functional as F

from fsd.method.cka import at_least_float32, centered_gram
from fsd.method.losses import as_loss, zero_padding
from fsd.method.relations import pairwise_distances
from fsd.method.shapes import check_pair


def pkd_loss(student_hidden, teacher_hidden):
    """PKD for one layer pair: squared error between the normalised [CLS] states, mean over the batch and the dimensions.

    Args:
        student_hidden, teacher_hidden: [B, S, d] each; the first token is [CLS]. Each state is divided by its Euclidean norm.

    Raises:
        ValueError: other shapes, or the hidden sizes differ.

    Source: Sun et al. 2019 (arXiv 1908.09355): L_PT, the loss of the patient teacher.
    """
    check_pair("pkd_loss", "hidden states [B, S, d]", student_hidden, teacher_hidden, dims=(3,), shared=2)
    if student_hidden.shape[-1] != teacher_hidden.shape[-1]:
        sizes = f"{student_hidden.shape[-1]} and {teacher_hidden.shape[-1]}"
        raise ValueError(f"PKD needs a student and a teacher of the same hidden size, not {sizes}")
    with torch.autocast(student_hidden.device.type, enabled=False):
        return F.mse_loss(_normalised(student_hidden[:, 0]), _normalised(teacher_hidden[:, 0]))


def rkd_distance_loss(student_features, teacher_features, mask=None):
    """RKD's distance loss: smooth L1 between the pairwise Euclidean distances, mean over all B² entries.

    Args:
        student_features, teacher_features: [B, S, d] or [B, P]; the widths may differ. Each side's distances are divided by
            the mean of its positive ones. A pair at distance 0 has the value 0.
        mask: [B, S], nonzero where a token counts; features [B, S, d] of the other tokens are set to zero. None counts all.

    Raises:
        ValueError: other shapes.

    Source: Park et al. 2019 (arXiv 1904.05068), section 3.2.1.
    """
    return rkd_losses(student_features, teacher_features, mask, ["distance"])["distance"]


def rkd_angle_loss(student_features, teacher_features, mask=None):
    """RKD's angle loss: smooth L1 between the cosines of the angles of all triplets of examples, mean over all B³ entries.

    Args:
        student_features, teacher_features, mask: as in :func:`rkd_distance_loss`. An angle with a side of length 0 has the
            value 0. Several arrays of B³ values in float64 are held at once.

    Raises:
        ValueError: other shapes.

    Source: Park et al. 2019 (arXiv 1904.05068), section 3.2.2.
    """
    return rkd_losses(student_features, teacher_features, mask, ["angle"])["angle"]


def rkd_losses(student_features, teacher_features, mask=None, names=("distance", "angle")):
    """{name: loss} for "distance" and "angle", from one Gram matrix of the batch a side; see the two functions above."""
    takes = "features [B, P], or [B, S, d] and a mask [B, S] or None"
    check_pair("RKD", takes, student_features, teacher_features, dims=(2, 3), shared=1, mask=mask)
    relations = {"distance": _relative_distances, "angle": _angle_cosines}
    with torch.autocast(student_features.device.type, enabled=False):
        # In float64: a distance is a small difference of large products, and float32 would keep few of its digits.
        student, teacher = (
            centered_gram(zero_padding(features, mask).flatten(1).double()) for features in (student_features, teacher_features)
        )
        losses = {name: F.smooth_l1_loss(relations[name](student), relations[name](teacher)) for name in names}
        return {name: as_loss(loss, student_features) for name, loss in losses.items()}


def attention_loss(student_attention, teacher_attention, mask=None):
    """MiniLM's first part: KL(teacher ‖ student) of attention distributions, mean over examples, heads and rows.

    Args:
        student_attention, teacher_attention: [B, heads, S, S], each row a distribution over the keys. Those that transformers
            gives in training mode are after dropout, and are none: take :func:`query_key_loss` there.
        mask: [B, S], nonzero where a token counts. An example's mean is over its own rows; rows and keys of other tokens play
            no part, nor do examples without a token. None counts all.

    Raises:
        ValueError: other shapes, or the numbers of heads differ.

    Source: Wang et al. 2020 (arXiv 2002.10957), section 3.1. A probability of 0 is taken as the smallest normal number, so the
    loss stays finite; :func:`query_key_loss` works on logits and needs no such floor.
    """
    _check_heads(student_attention, teacher_attention)
    takes = "attentions [B, heads, S, S] and a mask [B, S] or None"
    check_pair("attention_loss", takes, student_attention, teacher_attention, dims=(4,), shared=4, mask=mask, tokens=2)
    with torch.autocast(student_attention.device.type, enabled=False):
        student, teacher = at_least_float32(student_attention), at_least_float32(teacher_attention)
        if mask is not None:
            left_out = ~_pairs(mask)
            student, teacher = student.masked_fill(left_out, 1), teacher.masked_fill(left_out, 1)  # their logarithm is 0
        tiny = torch.finfo(student.dtype).tiny
        return _divergence(student.clamp(min=tiny).log(), teacher.clamp(min=tiny).log(), mask)


def value_relation_loss(student_values, teacher_values, mask=None):
    """MiniLM's second part: KL(teacher ‖ student) of softmax(V Vᵀ / √d_head), mean over examples, heads and rows.

    Args:
        student_values, teacher_values: [B, heads, S, d_head]; d_head may differ.
        mask: [B, S], nonzero where a token counts; other tokens are neither rows nor keys. None counts all.

    Raises:
        ValueError: other shapes, or the numbers of heads differ.

    Source: Wang et al. 2020 (arXiv 2002.10957), section 3.2.
    """
    return query_key_loss(student_values, student_values, teacher_values, teacher_values, mask)


def query_key_loss(student_queries, student_keys, teacher_queries, teacher_keys, mask=None):
    """:func:`attention_loss` of softmax(Q Kᵀ / √d_head), from the queries and keys [B, heads, S, d_head] of both models.

    Args, raises and source: as there. :func:`fsd.models.forward.last_attention` takes them out of a model.
    """
    _check_heads(student_queries, teacher_queries)
    takes = "queries, keys or values [B, heads, S, d_head] and a mask [B, S] or None"
    check_pair("MiniLM", takes, student_queries, teacher_queries, dims=(4,), shared=3, mask=mask, tokens=2)
    for queries, keys in ((student_queries, student_keys), (teacher_queries, teacher_keys)):
        check_pair("MiniLM", takes + ", queries and keys alike", queries, keys, dims=(4,), shared=4)
    with torch.autocast(student_queries.device.type, enabled=False):
        student = _log_attention(student_queries, student_keys, mask)
        teacher = _log_attention(teacher_queries, teacher_keys, mask)
        return _divergence(student, teacher, mask)


def _normalised(x):
    x = at_least_float32(x)
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(norms == 0, 0, x / torch.where(norms == 0, 1, norms))


def _relative_distances(products):
    """Distances [B, B] over the mean of the positive ones."""
    distances = pairwise_distances(products)
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / torch.where(mean == 0, 1, mean)


def _angle_cosines(products):
    """⟨e_ji, e_jk⟩ as [j, i, k], where e_ji is the unit vector from x_j to x_i, or 0 if the two are equal."""
    distances = pairwise_distances(products)
    inverse = torch.where(distances == 0, 0, 1 / torch.where(distances == 0, 1, distances))
    # ⟨x_i − x_j, x_k − x_j⟩ = G_ik − G_ij − G_jk + G_jj
    inner = products - products[:, :, None] - products[:, None, :] + products.diagonal()[:, None, None]
    return inner * inverse[:, :, None] * inverse[:, None, :]


def _log_attention(queries, keys, mask):
    """log softmax(Q Kᵀ / √d_head) over the real tokens, [B, heads, S, S]; about −3e38 at the other keys."""
    queries, keys = at_least_float32(queries) / queries.shape[-1] ** 0.5, at_least_float32(keys)
    if mask is None:
        return F.log_softmax(queries @ keys.mT, dim=-1)
    hidden = mask[:, None, :, None] == 0
    logits = queries.masked_fill(hidden, 0) @ keys.masked_fill(hidden, 0).mT
    return F.log_softmax(logits.masked_fill(hidden.mT, torch.finfo(logits.dtype).min), dim=-1)


def _divergence(student, teacher, mask):
    """KL(teacher ‖ student) of log-probabilities [B, heads, S, S], mean over the real rows and the heads, then the examples."""
    rows = (teacher.exp() * (teacher - student)).sum(dim=-1).mean(dim=1)
    if mask is None:
        return rows.mean()
    real = mask != 0
    examples = rows.masked_fill(~real, 0).sum(dim=-1) / real.sum(dim=-1).clamp(min=1)
    return examples.sum() / real.any(dim=-1).sum().clamp(min=1)


def _pairs(mask):
    """Where both tokens count: [B, 1, S, S]."""
    real = mask != 0
    return (real[:, :, None] & real[:, None, :])[:, None]


def _check_heads(student, teacher):
    if student.dim() == teacher.dim() == 4 and student.shape[1] != teacher.shape[1]:
        raise ValueError(f"MiniLM needs equal numbers of attention heads, not {student.shape[1]} and {teacher.shape[1]}")
