"""The CKA heat map: every mini-batch of the teacher's features against every one of the student's."""

import torch

from fsd.analysis.features import hidden_states, mini_batches, penultimate
from fsd.method.chance import gram_chance, shuffled_cka
from fsd.method.cka import centered_gram, gram_cka
from fsd.system.logs import progress_bar


def heat_map(teacher, student, dataset, batch_size, max_batches, mask_padding=False):
    """CKA of the flattened penultimate features [B, S·d] of mini-batches; the items are the examples.

    Only the [B, B] Gram matrix of a mini-batch is kept, so memory does not grow with the width or the length.

    Args:
        teacher, student: models in eval mode, on the dataset's device.
        batch_size: B. Only full mini-batches are used.
        max_batches: the number of mini-batches n to stop after.
        mask_padding: set padded positions to zero; otherwise they count, as in the paper.

    Returns:
        {"map": n lists of n numbers, "mean_diagonal", "shuffled_mean_diagonal", "chance_mean_diagonal"}. ``map[i][j]``
        compares mini-batch i of the teacher with mini-batch j of the student. The last two are chance levels: that of
        :func:`fsd.method.chance.shuffled_cka`, and that of :func:`fsd.chance_cka`.

    Source: the paper's Figures 4 and 7, Table 6; the chance levels are ours.
    """
    teacher_grams, student_grams = [], []
    batches = mini_batches(dataset, batch_size, max_batches)
    for indices in progress_bar(iterable=batches, desc=f"CKA on {dataset.split}", unit="batch", leave=False):
        batch = dataset.batch(indices, cut_to_longest=mask_padding)
        for model, grams in ((teacher, teacher_grams), (student, student_grams)):
            (hidden,) = hidden_states(model, batch, [penultimate(model)], mask_padding)
            grams.append(centered_gram(hidden.flatten(1)).double().cpu())
    teacher_grams, student_grams = torch.stack(teacher_grams), torch.stack(student_grams)
    values = torch.stack([gram_cka(row, student_grams) for row in teacher_grams])
    return {
        "map": values.tolist(), "mean_diagonal": values.diagonal().mean().item(),
        "shuffled_mean_diagonal": shuffled_cka(teacher_grams, student_grams).mean().item(),
        "chance_mean_diagonal": gram_chance(teacher_grams, student_grams).mean().item(),
    }
