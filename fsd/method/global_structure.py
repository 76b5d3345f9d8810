"""L_G, the global inter-feature structure: how the examples of a batch relate to the centroids of a memory (Eq. 8 to 10).

Shapes: B examples, K centroids, P features of a flattened hidden state. Everything is computed in float32, or in the
inputs' higher precision, even under autocast.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fsd.method.cka import at_least_float32, center, gram, gram_cka
from fsd.method.losses import cka_loss, fewest_items, no_structure, zero_padding


class MemoryProducts(NamedTuple):
    """The values of a memory [K, P] that distances, cosines and CKA use; for the teacher memory, computed once per run."""

    offset: Tensor  # [P], the first centroid, without gradient
    shifted: Tensor  # [K, P], the centroids minus the offset
    squared_norms: Tensor  # [K], of the shifted centroids
    offset_products: Tensor  # [K], shifted centroids · offset
    norms: Tensor  # [K], of the unshifted centroids
    centered_gram: Tensor  # [K, K]


class GlobalTerms(NamedTuple):
    """The three unweighted parts of L_G, each a scalar."""

    distance: Tensor
    cosine: Tensor
    memory_cka: Tensor


def memory_products(memory):
    """The :class:`MemoryProducts` of memory [K, P] (or [K, S, d])."""
    with torch.autocast(memory.device.type, enabled=False):
        memory = at_least_float32(memory).flatten(1)
        # A common shift does not change distances, and removing a large offset avoids rounding errors.
        offset = memory[0].detach()
        shifted = memory - offset
        products, offset_products = gram(shifted), shifted @ offset
        norms = torch.linalg.vector_norm(memory, dim=-1)
        return MemoryProducts(offset, shifted, products.diagonal(), offset_products, norms, center(products))


def global_inter_feature_terms(student_features, teacher_features, student_memory, teacher_memory, debiased=False):
    """The parts of L_G: mean squared differences of distances and of cosines to the centroids, and the CKA of the memories.

    Args:
        student_features, teacher_features: [B, S, d] or [B, P] each. The caller sets masked positions to zero. Features
            shorter than the memory are treated as if padded with zeros.
        student_memory, teacher_memory: :class:`MemoryProducts` of the two memories [K, ·].
        debiased: take 1 − CKA with the debiased CKA of the memories, and 0 if K is below 4.

    Returns:
        :class:`GlobalTerms`: MSE(D(F_S, M_S), D(F_T, M_T)), MSE(C(F_S, M_S), C(F_T, M_T)) over [B, K], where D is
        the Euclidean distance and C the cosine similarity; and −log(CKA(M_S, M_T) + 1e-8) over the K centroids (0 if K is 1).

    Raises:
        ValueError: the features are wider than the memory.

    Source: the paper's Eq. 9 (distances and cosines) and Eq. 8 (CKA); the exact form from the released code.
    """
    with torch.autocast(student_features.device.type, enabled=False):
        student_distance, student_cosine = _distances_and_cosines(student_features, student_memory)
        teacher_distance, teacher_cosine = _distances_and_cosines(teacher_features, teacher_memory)
        if len(student_memory.norms) < fewest_items(debiased):
            memory_cka = no_structure(student_memory.norms)
        else:
            cka = gram_cka(student_memory.centered_gram, teacher_memory.centered_gram, debiased)
            memory_cka = cka_loss(cka, debiased)
        return GlobalTerms(
            F.mse_loss(student_distance, teacher_distance), F.mse_loss(student_cosine, teacher_cosine), memory_cka
        )


def global_inter_feature_loss(
    student_features, teacher_features, student_memory, teacher_memory, gamma_m, mask=None, debiased=False
):
    """L_G = γ_m · distance + (1 − γ_m) · cosine + memory CKA.

    Args:
        student_features, teacher_features: [B, S, d] or [B, P].
        student_memory, teacher_memory: [K, S·d_S] and [K, S·d_T] (or [K, S, d]).
        gamma_m: weight of the distance part, in [0, 1].
        mask: [B, S], nonzero where a token counts; for a memory that was built with ``--mask_padding``. Features of the other
            tokens are zero, and so are those beyond the end of features that are shorter than the memory. None counts all.
        debiased: as in :func:`global_inter_feature_terms`.

    Raises:
        ValueError: the features are wider than the memory, or narrower without a mask.

    Source: the paper's Eq. 10.
    """
    if mask is not None:
        student_features, teacher_features = zero_padding(student_features, mask), zero_padding(teacher_features, mask)
    for features, memory in ((student_features, student_memory), (teacher_features, teacher_memory)):
        width, full = features[0].numel(), memory[0].numel()
        if mask is None and width < full:
            remedy = "pad the examples to the memory's length, or give the mask"
            raise ValueError(f"features of width {width} beside a memory of width {full}: {remedy}")
    terms = global_inter_feature_terms(
        student_features, teacher_features, memory_products(student_memory), memory_products(teacher_memory), debiased
    )
    return gamma_m * terms.distance + (1 - gamma_m) * terms.cosine + terms.memory_cka


def _distances_and_cosines(features, memory):
    """Euclidean distances and cosine similarities [B, K] between features and centroids; both share one matrix product."""
    features = at_least_float32(features).flatten(1)
    length = features.shape[1]
    if length > memory.offset.shape[0]:
        raise ValueError(f"features of width {length} beside a memory of width {memory.offset.shape[0]}")
    shifted = features - memory.offset[:length]
    # The features are zero beyond their end, so there the shifted features are −offset.
    tail_offset = memory.offset[length:]
    head_memory, tail_memory = memory.shifted.split([length, len(tail_offset)], dim=1)  # slices would each fill a gradient [K, P]
    products = shifted @ head_memory.mT - tail_memory @ tail_offset
    squared_norms = shifted.square().sum(dim=-1) + tail_offset.square().sum()
    squared_distances = squared_norms[:, None] + memory.squared_norms - 2 * products
    # Undo the shift without a second product: F·M = (F − o)·(M − o) + F·o + (M − o)·o.
    inner = products + (features @ memory.offset[:length])[:, None] + memory.offset_products
    norms = _safe_sqrt(features.square().sum(dim=-1))[:, None] * memory.norms
    cosines = torch.where(norms > 0, inner / torch.where(norms > 0, norms, 1), 0)
    return _safe_sqrt(squared_distances), cosines


def _safe_sqrt(squared):
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)
