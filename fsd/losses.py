"""The losses of feature structure distillation: pure functions of tensors, each returning a scalar tensor.

Shapes: B examples, S tokens, hidden sizes d (teacher's and student's may differ), K centroids. Everything is computed
in float32, or in the inputs' own higher precision, also under autocast. Gradients flow to the student's tensors; give
the teacher's without gradient (``torch.no_grad``).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fsd.cka import at_least_float32, center, centered_gram, gram, gram_cka, masked_centered_gram

LOG_FLOOR = 1e-8  # inside every logarithm of a CKA (released code)


def task_loss(logits, labels):
    """L_CE: cross-entropy of logits [B, C] against class ids [B]; with one logit, squared error against scores [B].

    The mean over the batch. Source: the usual BERT fine-tuning objective on GLUE.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        if logits.shape[-1] == 1:
            return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
        return F.cross_entropy(logits, labels)


def kd_loss(student_logits, teacher_logits, temperature):
    """L_DK, dark knowledge: T² · KL(softmax(z_T / T) ‖ softmax(z_S / T)), the mean over the batch.

    Args:
        student_logits, teacher_logits: [B, C]. With C = 1 (regression) the loss is the squared error between the two,
            where the temperature plays no part: a softmax over one logit would be constant.
        temperature: T > 0.

    Source: Hinton et al. 2015, section 2; the paper's L_KD is α · L_CE + (1 − α) · L_DK.
    """
    with torch.autocast(student_logits.device.type, enabled=False):
        student_logits, teacher_logits = at_least_float32(student_logits), at_least_float32(teacher_logits)
        if student_logits.shape[-1] == 1:
            return F.mse_loss(student_logits, teacher_logits)
        student = F.log_softmax(student_logits / temperature, dim=-1)
        teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
        return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def intra_feature_loss(student_hidden, teacher_hidden, mask=None):
    """L_I for one layer pair: −log(mean over the batch of CKA(H_T[b], H_S[b]) + 1e-8); items are an example's tokens.

    Args:
        student_hidden: [B, S, d_S]. teacher_hidden: [B, S, d_T].
        mask: [B, S], nonzero where a token counts; None counts all. An example with fewer than two tokens leaves the
            mean; if none is left, the loss is 0.

    Source: the paper's intra-feature structure; indices and floor from the released code.
    """
    with torch.autocast(student_hidden.device.type, enabled=False):
        if student_hidden.shape[-2] < 2:
            return _no_structure(student_hidden)
        if mask is None:
            return _negative_log(gram_cka(centered_gram(teacher_hidden), centered_gram(student_hidden)).mean())
        cka = gram_cka(masked_centered_gram(teacher_hidden, mask), masked_centered_gram(student_hidden, mask))
        has_structure = (mask != 0).sum(dim=-1) >= 2
        mean = (cka * has_structure).sum() / has_structure.sum().clamp(min=1)
        return torch.where(has_structure.any(), _negative_log(mean), 0 * mean)


def local_inter_feature_loss(student_hidden, teacher_hidden, mask=None):
    """L_L for one layer pair: −log(CKA(flat H_T, flat H_S) + 1e-8); items are the examples of the batch.

    Args:
        student_hidden: [B, S, d_S], used as [B, S·d_S]. teacher_hidden: [B, S, d_T]. B is the batch's true size; with
            one example there is no structure between examples, and the loss is 0.
        mask: [B, S], nonzero where a token counts; features of the others are zero. None counts all.

    Source: the paper's local inter-feature structure; indices and floor from the released code.
    """
    with torch.autocast(student_hidden.device.type, enabled=False):
        if len(student_hidden) < 2:
            return _no_structure(student_hidden)
        teacher_gram = centered_gram(zero_padding(teacher_hidden, mask).flatten(1))
        student_gram = centered_gram(zero_padding(student_hidden, mask).flatten(1))
        return _negative_log(gram_cka(teacher_gram, student_gram))


class MemoryProducts(NamedTuple):
    """What distances, cosines and CKA need of a memory [K, P]; for the teacher's it is computed once a run."""

    offset: Tensor  # [P], the first centroid, without gradient
    shifted: Tensor  # [K, P], the centroids less the offset
    squared_norms: Tensor  # [K], of the shifted centroids
    offset_products: Tensor  # [K], of the shifted centroids with the offset
    norms: Tensor  # [K], of the centroids themselves
    centered_gram: Tensor  # [K, K]


class GlobalTerms(NamedTuple):
    """The three unweighted parts of the global inter-feature loss, each a scalar."""

    distance: Tensor
    cosine: Tensor
    memory_cka: Tensor


def memory_products(memory):
    """The :class:`MemoryProducts` of memory [K, P] (or [K, S, d])."""
    with torch.autocast(memory.device.type, enabled=False):
        memory = at_least_float32(memory).flatten(1)
        # Distances do not change under a common shift, and without a large common offset they lose no digits.
        offset = memory[0].detach()
        shifted = memory - offset
        products, offset_products = gram(shifted), shifted @ offset
        norms = torch.linalg.vector_norm(memory, dim=-1)
        return MemoryProducts(offset, shifted, products.diagonal(), offset_products, norms, center(products))


def global_inter_feature_terms(student_features, teacher_features, student_memory, teacher_memory):
    """The parts of L_G: squared differences of distances and of cosines to the centroids, and the memories' own CKA.

    Args:
        student_features, teacher_features: [B, S, d] or [B, P] each, masked positions zeroed by the caller. Features
            shorter than the memory count as zero beyond their end.
        student_memory, teacher_memory: :class:`MemoryProducts` of the two memories [K, ·].

    Returns:
        :class:`GlobalTerms`: MSE(D(F_S, M_S), D(F_T, M_T)), MSE(C(F_S, M_S), C(F_T, M_T)) over [B, K] with D Euclidean
        distances and C cosine similarities, and −log(CKA(M_S, M_T) + 1e-8) over the K centroids (0 where K is 1).

    Source: the paper's global inter-feature structure; the three parts and their form from the released code.
    """
    with torch.autocast(student_features.device.type, enabled=False):
        student_distance, student_cosine = _distances_and_cosines(student_features, student_memory)
        teacher_distance, teacher_cosine = _distances_and_cosines(teacher_features, teacher_memory)
        if len(student_memory.norms) < 2:
            memory_cka = _no_structure(student_memory.norms)
        else:
            memory_cka = _negative_log(gram_cka(student_memory.centered_gram, teacher_memory.centered_gram))
        return GlobalTerms(
            F.mse_loss(student_distance, teacher_distance), F.mse_loss(student_cosine, teacher_cosine), memory_cka
        )


def global_inter_feature_loss(student_features, teacher_features, student_memory, teacher_memory, gamma_m):
    """L_G: γ_m · distance part + (1 − γ_m) · cosine part + memory CKA part.

    Args:
        student_features, teacher_features: [B, S, d] or [B, P]; see :func:`global_inter_feature_terms`.
        student_memory, teacher_memory: [K, S·d_S] and [K, S·d_T] (or [K, S, d]).
        gamma_m: weight of the distance part, in [0, 1].

    Source: the paper's global inter-feature structure; the parts from the released code.
    """
    terms = global_inter_feature_terms(
        student_features, teacher_features, memory_products(student_memory), memory_products(teacher_memory)
    )
    return gamma_m * terms.distance + (1 - gamma_m) * terms.cosine + terms.memory_cka


def zero_padding(hidden, mask):
    """hidden [B, S, d] with zeros where mask [B, S] is zero; unchanged where mask is None."""
    return hidden if mask is None else hidden.masked_fill(mask[..., None] == 0, 0)


def _distances_and_cosines(features, memory):
    """Euclidean distances and cosine similarities [B, K] of features to a memory, from one product over the features."""
    features = at_least_float32(features).flatten(1)
    length = features.shape[1]
    if length > memory.offset.shape[0]:
        raise ValueError(f"features of width {length} beside a memory of width {memory.offset.shape[0]}")
    shifted = features - memory.offset[:length]
    # Beyond their end features are zero, that is −offset once shifted.
    tail_offset = memory.offset[length:]
    head_memory, tail_memory = memory.shifted.split([length, len(tail_offset)], dim=1)  # slices would each fill a gradient
    products = shifted @ head_memory.mT - tail_memory @ tail_offset
    squared_norms = shifted.square().sum(dim=-1) + tail_offset.square().sum()
    squared_distances = squared_norms[:, None] + memory.squared_norms - 2 * products
    # Undoes the shift, without a second product: F·M = (F − o)·(M − o) + F·o + (M − o)·o.
    inner = products + (features @ memory.offset[:length])[:, None] + memory.offset_products
    norms = _safe_sqrt(features.square().sum(dim=-1))[:, None] * memory.norms
    cosines = torch.where(norms > 0, inner / torch.where(norms > 0, norms, 1), 0)
    return _safe_sqrt(squared_distances), cosines


def _negative_log(cka):
    return -torch.log(cka + LOG_FLOOR)


def _no_structure(student):
    return at_least_float32(student[:0]).sum()  # a zero that backward accepts


def _safe_sqrt(squared):
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)
