"""L_G, the global inter-feature structure: how the examples of a batch relate to the centroids of a memory (Eq. 8 to 10).

Shapes: B examples, K centroids, P features of a flattened hidden state. Everything is computed in float32, or in the
inputs' higher precision, even under autocast.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fsd.method.cka import at_least_float32, center
from fsd.method.losses import no_structure, zero_padding
from fsd.method.shapes import check_pair
from fsd.method.similarity import check_forms, fewest_items, safe_sqrt, structure_term

CPU_COLUMNS = 2048  # features of a chunk: K = 100 centroids then take 0.8 MB, which stays in a core's cache
GPU_COLUMNS = 32768  # a GPU needs few large products; its chunks only bound the memory
GRAM_ROWS = 128  # the Gram matrix is symmetric: of its blocks of 128 by 128, only those on and below the diagonal are computed


class MemoryProducts(NamedTuple):
    """A memory [K, P], and the values of a fixed memory that distances, cosines and CKA use in every step."""

    centroids: Tensor  # [K, P], in float32 or higher
    gram: Tensor | None  # [K, K], of the centroids minus the first one; None for a memory that is trained
    norms: Tensor | None  # [K], of the centroids; None for a memory that is trained
    spare: list  # see memory_products


class GlobalTerms(NamedTuple):
    """The three unweighted parts of L_G, each a scalar."""

    distance: Tensor
    cosine: Tensor
    memory_cka: Tensor


def memory_products(memory, spare=()):
    """The :class:`MemoryProducts` of memory [K, P] (or [K, S, d]).

    ``spare`` may be a list of old gradients of the memory, which nothing else uses. The backward pass takes one out of the
    list and writes the new gradient into it, because the first writes to new RAM are slow.
    """
    with torch.autocast(memory.device.type, enabled=False):
        memory = at_least_float32(memory).flatten(1)
        products = MemoryProducts(memory, None, None, spare)
        if memory.requires_grad:
            return products
        fixed = feature_products(memory[:0], products)
        return products._replace(gram=fixed.gram, norms=fixed.norms)


def global_inter_feature_terms(
    student_features, teacher_features, student_memory, teacher_memory, debiased=False, similarity="cka",
    normalize_distances=False,
):
    """The parts of L_G: mean squared differences of distances and of cosines to the centroids, and the CKA of the memories.

    Args:
        student_features, teacher_features: [B, S, d] or [B, P] each. The caller sets masked positions to zero. Features
            shorter than the memory are treated as if padded with zeros.
        student_memory, teacher_memory: :class:`MemoryProducts` of the two memories [K, ·].
        debiased: take 1 − CKA with the debiased CKA of the memories, and 0 if K is below 4.
        similarity: "cka"; or "procrustes" or "gram", to take that distance of the memories instead of −log(CKA).
        normalize_distances: divide each side's distances by the root of its memory's width, √(S·d). They are then root mean
            squares over the features, of the size of one feature's difference.

    Returns:
        :class:`GlobalTerms`: MSE(D(F_S, M_S), D(F_T, M_T)), MSE(C(F_S, M_S), C(F_T, M_T)) over [B, K], where D is
        the Euclidean distance and C the cosine similarity; and −log(CKA(M_S, M_T) + 1e-8) over the K centroids (0 if K is 1).

    Raises:
        ValueError: the features are wider than the memory, the similarity is unknown, or debiased without CKA.

    Source: the paper's Eq. 9 (distances and cosines) and Eq. 8 (CKA); the exact form from the released code. Dividing the
    distances is this project's own.
    """
    check_forms(similarity, debiased)
    with torch.autocast(student_features.device.type, enabled=False):
        student_distance, student_cosine, student_gram = _relations(student_features, student_memory)
        teacher_distance, teacher_cosine, teacher_gram = _relations(teacher_features, teacher_memory)
        if len(student_gram) < fewest_items(debiased):
            memory_cka = no_structure(student_gram)
        else:
            memory_cka = structure_term(center(student_gram), center(teacher_gram), similarity, debiased)
        if normalize_distances:
            student_distance = student_distance / student_memory.centroids.shape[1] ** 0.5
            teacher_distance = teacher_distance / teacher_memory.centroids.shape[1] ** 0.5
        return GlobalTerms(
            F.mse_loss(student_distance, teacher_distance), F.mse_loss(student_cosine, teacher_cosine), memory_cka
        )


def global_inter_feature_loss(
    student_features, teacher_features, student_memory, teacher_memory, gamma_m, mask=None, debiased=False, similarity="cka",
    normalize_distances=False,
):
    """L_G = γ_m · distance + (1 − γ_m) · cosine − log(CKA of the memories + 1e-8).

    Second derivatives and ``torch.func`` are not supported.

    Args:
        student_features, teacher_features: [B, S, d] or [B, P].
        student_memory, teacher_memory: tensors [K, S·d_S] and [K, S·d_T] (or [K, S, d]), such as the ``centroids`` of
            :class:`fsd.StudentMemory` and :class:`fsd.TeacherMemory`.
        gamma_m: weight of the distance part, in [0, 1].
        mask: [B, S], nonzero where a token counts; for a memory that was built with ``--mask_padding``. Features of the other
            tokens are zero, and so are those beyond the end of features that are shorter than the memory. None counts all.
        debiased, similarity, normalize_distances: as in :func:`global_inter_feature_terms`.

    Raises:
        ValueError: other shapes, as features wider than the memory, or narrower without a mask; gamma_m is out of range; the
            similarity is unknown, or debiased without CKA.
        TypeError: a memory is no tensor.

    Source: the paper's Eq. 10.
    """
    takes = "features [B, P], or [B, S, d] and a mask [B, S] or None"
    check_pair("global_inter_feature_loss", takes, student_features, teacher_features, dims=(2, 3), shared=1, mask=mask)
    if not 0 <= gamma_m <= 1:
        raise ValueError(f"gamma_m is between 0 and 1, not {gamma_m}")
    if mask is not None:
        student_features, teacher_features = zero_padding(student_features, mask), zero_padding(teacher_features, mask)
    sides = [_same_precision(name, features, memory, mask is not None) for name, features, memory in (
        ("student", student_features, student_memory), ("teacher", teacher_features, teacher_memory))]
    (student_features, student_memory), (teacher_features, teacher_memory) = sides
    if len(student_memory) != len(teacher_memory):
        raise ValueError(f"the student memory has {len(student_memory)} centroids, the teacher memory {len(teacher_memory)}")
    terms = global_inter_feature_terms(
        student_features, teacher_features, memory_products(student_memory), memory_products(teacher_memory), debiased,
        similarity, normalize_distances,
    )
    return gamma_m * terms.distance + (1 - gamma_m) * terms.cosine + terms.memory_cka


def _same_precision(side, features, memory, may_be_shorter):
    """Features and memory of a side in the higher precision of the two, after a check that they belong together."""
    if not isinstance(memory, Tensor):
        raise TypeError(f"the {side} memory is a tensor, such as the centroids of a memory, not {type(memory).__name__}")
    width, full = features.shape[1:].numel(), memory.shape[1:].numel()
    if width < full and not may_be_shorter:
        remedy = "pad the examples to the memory's length, give the mask, or take the memory of this model"
        raise ValueError(f"{side} features of width {width} beside a memory of width {full}: {remedy}")
    precision = torch.promote_types(features.dtype, memory.dtype)
    return features.to(precision), memory.to(precision)


def _relations(features, memory):
    """Distances and cosine similarities [B, K] between features and centroids, and the memory's Gram matrix [K, K]."""
    products = feature_products(features, memory)
    squared_distances = products.squares[:, None] + products.gram.diagonal() - 2 * products.products
    # Undo the shift without a second product: F·M = (F − o)·(M − o) + F·o + (M − o)·o.
    inner = products.products + products.feature_offsets[:, None] + products.offsets
    norms = products.feature_norms[:, None] * products.norms
    cosines = torch.where(norms > 0, inner / _nonzero(norms), 0)
    return safe_sqrt(squared_distances), cosines, products.gram


def feature_products(features, memory):
    """The :class:`FeatureProducts` of features [B, L] (or [B, S, d]) and a :class:`MemoryProducts`."""
    features = at_least_float32(features).flatten(1)
    width = memory.centroids.shape[1]
    if features.shape[1] > width:
        remedy = "cut the examples to the memory's length, or take the memory of this model"
        raise ValueError(f"features of width {features.shape[1]} beside a memory of width {width}: {remedy}")
    is_trained = memory.gram is None
    products = FeatureProducts(*_Products.apply(features, memory.centroids, is_trained, memory.spare))
    return products if is_trained else products._replace(gram=memory.gram, norms=memory.norms)


class FeatureProducts(NamedTuple):
    """Products of a memory M [K, P] and features F [B, L]; F is zero beyond L. The offset o is the first centroid.

    A common shift does not change distances, and removing a large offset avoids rounding errors.
    """

    gram: Tensor  # [K, K], (M − o) (M − o)ᵀ
    offsets: Tensor  # [K], (M − o) o
    products: Tensor  # [B, K], (F − o) (M − o)ᵀ
    squares: Tensor  # [B], ‖F − o‖²
    norms: Tensor  # [K], ‖M‖
    feature_norms: Tensor  # [B], ‖F‖
    feature_offsets: Tensor  # [B], F o


class _Products(torch.autograd.Function):
    """The :class:`FeatureProducts`, with one pass over the memory forward, and one backward that writes the gradient.

    A pass goes by chunks of features. Each chunk is shifted in a small buffer, so no shifted copy of the memory is made.
    The offset counts as a constant: the losses do not depend on it. Without ``with_memory``, gram and norms are zero.
    """

    @staticmethod
    def forward(context, features, centroids, with_memory, spare):
        k, length = len(centroids), features.shape[1]
        table = centroids.new_zeros(k + 1 + len(features), k)  # rows: M − o, o, F − o; columns: M − o
        first = 0 if with_memory else k
        for _, rows in _shifted_chunks(centroids, features[:0], length, centroids.shape[1]):
            _add_products(table, rows, first)
        table[k + 1 :] -= table[k]  # beyond their end, the shifted features are −o
        squares = centroids[0, length:].square().sum().repeat(len(features))
        for _, rows in _shifted_chunks(centroids, features, 0, length):
            _add_products(table, rows, first)
            squares += rows[k + 1 :].square().sum(dim=1)
        gram, norms = table[:k], torch.zeros_like(table[k])
        if with_memory:
            gram, norms = gram.tril() + gram.tril(-1).mT, torch.linalg.vector_norm(centroids, dim=1)
        feature_norms = torch.linalg.vector_norm(features, dim=1)
        context.save_for_backward(features, centroids, norms, feature_norms)
        context.spare = spare
        return gram, table[k], table[k + 1 :], squares, norms, feature_norms, features @ centroids[0, :length]

    @staticmethod
    @once_differentiable
    def backward(context, *gradients):
        with torch.autocast(context.saved_tensors[0].device.type, enabled=False):
            return *_Products.gradients(*context.saved_tensors, FeatureProducts(*gradients), context.spare), None, None

    @staticmethod
    def gradients(features, centroids, norms, feature_norms, of, spare):
        """The gradients of features and centroids, from those ``of`` the products."""
        k, length = len(centroids), features.shape[1]
        new = spare.pop().view_as(centroids) if spare else torch.empty_like(centroids)
        new_features = torch.empty_like(features)
        symmetric = of.gram + of.gram.mT
        unit = (of.norms / _nonzero(norms))[:, None]  # what the norms add to the gradient, as multiples of the rows
        unit_features = (of.feature_norms / _nonzero(feature_norms))[:, None]
        tail = torch.cat([symmetric, (of.offsets - of.products.sum(dim=0))[:, None]], dim=1)
        for columns, rows in _shifted_chunks(centroids, features[:0], length, centroids.shape[1]):
            torch.addcmul(tail @ rows, centroids[:, columns], unit, out=new[:, columns])
        head = torch.cat([
            torch.cat([symmetric, of.offsets[:, None], of.products.mT], dim=1),
            torch.cat([of.products, of.feature_offsets[:, None], 2 * of.squares.diag()], dim=1),
        ])
        for columns, rows in _shifted_chunks(centroids, features, 0, length):
            both = head @ rows
            torch.addcmul(both[:k], centroids[:, columns], unit, out=new[:, columns])
            torch.addcmul(both[k:], features[:, columns], unit_features, out=new_features[:, columns])
        return new_features, new


def _shifted_chunks(centroids, features, start, stop):
    """Yield, chunk by chunk of the columns from start to stop, their slice and the rows M − o, o and F − o.

    The next chunk overwrites the rows.
    """
    k, step = len(centroids), CPU_COLUMNS if centroids.device.type == "cpu" else GPU_COLUMNS
    buffer = centroids.new_empty(k + 1 + len(features), min(step, stop - start))
    for left in range(start, stop, step):
        columns = slice(left, min(left + step, stop))
        rows, offset = buffer[:, : columns.stop - left], centroids[0, columns]
        torch.sub(centroids[:, columns], offset, out=rows[:k])
        rows[k] = offset
        if len(features):
            torch.sub(features[:, columns], offset, out=rows[k + 1 :])
        yield columns, rows


def _add_products(table, rows, first):
    """Add the products of rows with the centroids among them to the table, from its row ``first`` on and below the diagonal."""
    k, count = table.shape[1], len(rows)
    for start in range(0, k, GRAM_ROWS):
        columns, top = slice(start, min(start + GRAM_ROWS, k)), max(start, first)
        table[top:count, columns].addmm_(rows[top:], rows[columns].mT)


def _nonzero(norms):
    return torch.where(norms > 0, norms, 1)
