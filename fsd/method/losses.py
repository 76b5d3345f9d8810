"""The losses of feature structure distillation: pure functions of tensors, each returning a scalar tensor.

Shapes: B examples, S tokens, C classes, hidden sizes d_S of the student and d_T of the teacher. Everything is computed in
float32, or in the inputs' higher precision, even under autocast. The caller computes the teacher's tensors without
gradient (``torch.no_grad``).
"""

import torch
from torch.nn import functional as F

from fsd.method.cka import FEWEST_DEBIASED, at_least_float32, centered_gram, gram_cka, masked_centered_gram

LOG_FLOOR = 1e-8  # inside every logarithm of a CKA (released code)


def task_loss(logits, labels):
    """L_CE: cross-entropy of logits [B, C] against class ids [B]; with one logit (regression), squared error against scores [B].

    Mean over the batch. Source: the L_CE of the paper's Eq. 1, the usual loss of BERT on GLUE.
    """
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

    Source: Hinton et al. 2015, section 2; the paper's Eq. 1 and 2, L_KD = α · L_CE + (1 − α) · L_DK.
    """
    with torch.autocast(student_logits.device.type, enabled=False):
        student_logits, teacher_logits = at_least_float32(student_logits), at_least_float32(teacher_logits)
        if student_logits.shape[-1] == 1:
            return F.mse_loss(student_logits, teacher_logits)
        # At a high temperature the two distributions differ by less than float32 can tell.
        student = F.log_softmax(student_logits.double() / temperature, dim=-1)
        teacher = F.log_softmax(teacher_logits.double() / temperature, dim=-1)
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return (divergence * temperature**2).to(student_logits.dtype)


def intra_feature_loss(student_hidden, teacher_hidden, mask=None, released=False, debiased=False):
    """L_I for one layer pair: mean over b of −log(CKA(H_T[b], H_S[b]) + 1e-8); the items are the tokens of example b.

    Args:
        student_hidden: [B, S, d_S]. teacher_hidden: [B, S, d_T].
        mask: [B, S], nonzero where a token counts; None counts all. The mean skips examples with
            fewer than two tokens; if it skips all, the loss is 0.
        released: take the form of the released code, −log(mean over b of CKA(H_T[b], H_S[b]) + 1e-8).
        debiased: take 1 − CKA with the debiased CKA. The mean skips examples with fewer than four tokens.

    Raises:
        ValueError: released and debiased.

    Source: the paper's Eq. 6; indices, the 1e-8 and the other form from the released code.
    """
    if released and debiased:
        raise ValueError("released and debiased exclude each other: the released code has the biased CKA")
    with torch.autocast(student_hidden.device.type, enabled=False):
        if student_hidden.shape[-2] < fewest_items(debiased):
            return no_structure(student_hidden)
        if mask is None:
            cka = gram_cka(centered_gram(teacher_hidden), centered_gram(student_hidden), debiased)
            return cka_loss(cka.mean()) if released else cka_loss(cka, debiased).mean()
        grams = masked_centered_gram(teacher_hidden, mask), masked_centered_gram(student_hidden, mask)
        cka = gram_cka(*grams, debiased, mask)
        has_structure = (mask != 0).sum(dim=-1) >= fewest_items(debiased)
        count = has_structure.sum().clamp(min=1)
        if released:
            mean = (cka * has_structure).sum() / count
            return torch.where(has_structure.any(), cka_loss(mean), 0 * mean)
        return (cka_loss(cka, debiased) * has_structure).sum() / count


def local_inter_feature_loss(student_hidden, teacher_hidden, mask=None, debiased=False):
    """L_L for one layer pair: −log(CKA(flat H_T, flat H_S) + 1e-8); the items are the examples of the batch.

    Args:
        student_hidden: [B, S, d_S], used as [B, S·d_S]. teacher_hidden: [B, S, d_T]. If B is 1
            there is no structure between examples, and the loss is 0.
        mask: [B, S], nonzero where a token counts; the other tokens are set to zero. None counts all.
        debiased: take 1 − CKA with the debiased CKA. The loss is then 0 if B is below 4.

    Source: the paper's Eq. 7; indices and the 1e-8 from the released code.
    """
    with torch.autocast(student_hidden.device.type, enabled=False):
        if len(student_hidden) < fewest_items(debiased):
            return no_structure(student_hidden)
        teacher_gram = centered_gram(zero_padding(teacher_hidden, mask).flatten(1))
        student_gram = centered_gram(zero_padding(student_hidden, mask).flatten(1))
        return cka_loss(gram_cka(teacher_gram, student_gram, debiased), debiased)


def zero_padding(hidden, mask):
    """hidden [B, S, d] with zeros where mask [B, S] is zero; unchanged if mask is None."""
    return hidden if mask is None else hidden.masked_fill(mask[..., None] == 0, 0)


def cka_loss(cka, debiased=False):
    """−log(cka + 1e-8), of the shape of ``cka``: how Eq. 6 to 8 turn a CKA into a loss. 1 − cka if debiased: it may be < 0."""
    return 1 - cka if debiased else -torch.log(cka + LOG_FLOOR)


def fewest_items(debiased=False):
    """The fewest items that have a structure: two, or four if the CKA is debiased."""
    return FEWEST_DEBIASED if debiased else 2


def no_structure(student):
    """A loss of 0 that supports backward, for inputs with too few items for a structure."""
    return at_least_float32(student[:0]).sum()
