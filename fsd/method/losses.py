"""The losses of feature structure distillation: pure functions of tensors, each returning a scalar tensor.

Shapes: B examples, S tokens, C classes, hidden sizes d_S of the student and d_T of the teacher. Everything is computed in
float32, or in the inputs' higher precision, even under autocast. The caller computes the teacher's tensors without
gradient (``torch.no_grad``).
"""

import torch
from torch.nn import functional as F

from fsd.method.cka import at_least_float32, gram_cka
from fsd.method.shapes import check_pair
from fsd.method.similarity import check_forms, cka_loss, fewest_items, structure_gram, structure_term

HIDDEN = "hidden states [B, S, d] and a mask [B, S] or None"


def task_loss(logits, labels):
    """L_CE: cross-entropy of logits [B, C] against class ids [B]; with one logit (regression), squared error against scores [B].

    Mean over the batch. Source: the L_CE of the paper's Eq. 1, the usual loss of BERT on GLUE.

    Raises:
        ValueError: the logits are not [B, C], or the labels not [B].
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"task_loss takes logits [B, C] and labels [B], not {tuple(logits.shape)} and {tuple(labels.shape)}")
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        if logits.shape[-1] == 1:
            return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
        return F.cross_entropy(logits, labels)


def kd_loss(student_logits, teacher_logits, temperature):
    """L_DK, dark knowledge: T² · KL(softmax(z_T / T) ‖ softmax(z_S / T)), mean over the batch.

    Args:
        student_logits, teacher_logits: [B, C]. With C = 1 (regression) the loss is the squared error between the two,
            without the temperature: the softmax of one logit is constant.
        temperature: T > 0.

    Raises:
        ValueError: the logits are not [B, C] each, or the temperature is not above 0.

    Source: Hinton et al. 2015, section 2, which has the T²; the paper's Eq. 1 and 2, L_KD = α · L_CE + (1 − α) · L_DK.
    """
    check_pair("kd_loss", "logits [B, C]", student_logits, teacher_logits, dims=(2,), shared=2)
    if not temperature > 0:
        raise ValueError(f"the temperature is above 0, not {temperature}")
    with torch.autocast(student_logits.device.type, enabled=False):
        student_logits, teacher_logits = at_least_float32(student_logits), at_least_float32(teacher_logits)
        if student_logits.shape[-1] == 1:
            return F.mse_loss(student_logits, teacher_logits)
        # At a high temperature the two distributions differ by less than float32 can tell.
        student = F.log_softmax(student_logits.double() / temperature, dim=-1)
        teacher = F.log_softmax(teacher_logits.double() / temperature, dim=-1)
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return (divergence * temperature**2).to(student_logits.dtype)


def intra_feature_loss(student_hidden, teacher_hidden, mask=None, released=False, debiased=False, similarity="cka"):
    """L_I for one layer pair: mean over b of −log(CKA(H_T[b], H_S[b]) + 1e-8); the items are the tokens of example b.

    Args:
        student_hidden: [B, S, d_S]. teacher_hidden: [B, S, d_T].
        mask: [B, S], nonzero where a token counts; None counts all. The mean skips examples with
            fewer than two tokens; if it skips all, the loss is 0.
        released: take the form of the released code, −log(mean over b of CKA(H_T[b], H_S[b]) + 1e-8).
        debiased: take 1 − CKA with the debiased CKA. The mean skips examples with fewer than four tokens.
        similarity: "cka"; or "procrustes" or "gram", to take that distance (:mod:`fsd.method.similarity`) instead of −log.

    Raises:
        ValueError: other shapes, an unknown similarity, released and debiased together, or one of them without CKA.

    Source: the paper's Eq. 6; indices, the 1e-8 and the other form from the released code.
    """
    check_forms(similarity, debiased, released)
    check_pair("intra_feature_loss", HIDDEN, student_hidden, teacher_hidden, dims=(3,), shared=2, mask=mask)
    with torch.autocast(student_hidden.device.type, enabled=False):
        if student_hidden.shape[-2] < fewest_items(debiased):
            return no_structure(student_hidden)
        student, teacher = (structure_gram(hidden, similarity, mask) for hidden in (student_hidden, teacher_hidden))
        terms = gram_cka(teacher, student) if released else structure_term(student, teacher, similarity, debiased, mask)
        if mask is None:
            mean = terms.mean()
            return cka_loss(mean) if released else as_loss(mean, student_hidden)
        has_structure = (mask != 0).sum(dim=-1) >= fewest_items(debiased)
        mean = (terms * has_structure).sum() / has_structure.sum().clamp(min=1)
        return torch.where(has_structure.any(), cka_loss(mean), 0 * mean) if released else as_loss(mean, student_hidden)


def local_inter_feature_loss(student_hidden, teacher_hidden, mask=None, debiased=False, similarity="cka"):
    """L_L for one layer pair: −log(CKA(flat H_T, flat H_S) + 1e-8); the items are the examples of the batch.

    Args:
        student_hidden: [B, S, d_S], used as [B, S·d_S]. teacher_hidden: [B, S, d_T]. If B is 1
            there is no structure between examples, and the loss is 0.
        mask: [B, S], nonzero where a token counts; the other tokens are set to zero. None counts all.
        debiased: take 1 − CKA with the debiased CKA. The loss is then 0 if B is below 4.
        similarity: as in :func:`intra_feature_loss`.

    Raises:
        ValueError: other shapes, an unknown similarity, or debiased without CKA.

    Source: the paper's Eq. 7; indices and the 1e-8 from the released code.
    """
    check_forms(similarity, debiased)
    check_pair("local_inter_feature_loss", HIDDEN, student_hidden, teacher_hidden, dims=(3,), shared=2, mask=mask)
    with torch.autocast(student_hidden.device.type, enabled=False):
        if len(student_hidden) < fewest_items(debiased):
            return no_structure(student_hidden)
        sides = (zero_padding(hidden, mask).flatten(1) for hidden in (student_hidden, teacher_hidden))
        student, teacher = (structure_gram(side, similarity) for side in sides)
        return as_loss(structure_term(student, teacher, similarity, debiased), student_hidden)


def zero_padding(hidden, mask):
    """hidden [B, S, d] with zeros where mask [B, S] is zero; unchanged if mask is None."""
    return hidden if mask is None else hidden.masked_fill(mask[..., None] == 0, 0)


def as_loss(value, student):
    """A value in float32, or in the student's higher precision: some similarities work in float64."""
    return value.to(at_least_float32(student[:0]).dtype)


def no_structure(student):
    """A loss of 0 that supports backward, for inputs with too few items for a structure."""
    return at_least_float32(student[:0]).sum()
