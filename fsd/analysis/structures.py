"""Layers and relations: how the structures of teacher and student compare on dev, in one pass."""

import torch

from fsd.analysis.features import hidden_states, mini_batches, penultimate
from fsd.method.cka import centered_gram, gram_cka
from fsd.method.relations import relation_difference
from fsd.system.logs import progress_bar

METRICS = ("euclidean", "cosine")
RELATIONS = tuple(f"{kind}_{metric}" for kind in ("inter", "intra") for metric in METRICS)


def layers_and_relations(teacher, student, dataset, batch_size, mask_padding=False):
    """(CKA of every layer against every layer, the four relation differences) over the mini-batches of a dataset.

    Args:
        teacher, student: models in eval mode, on the dataset's device.
        batch_size: examples in a mini-batch.
        mask_padding: set padded positions to zero, and leave them out of the pairs of tokens.

    Returns:
        L_T + 1 lists of L_S + 1 numbers: the CKA of the flattened features [B, S·d] of layer i of the teacher and layer j
        of the student, the mean over full mini-batches. Layer 0 is the output of the embeddings.
        {name in ``RELATIONS``: value}: the relation differences of the penultimate layers, the mean over all pairs of all
        mini-batches.

    Source: the paper's Eq. 12 and 13 for the relations; the layer map is ours.
    """
    layer_maps, sums, pairs = [], dict.fromkeys(RELATIONS, 0.0), dict.fromkeys(RELATIONS, 0)
    batches = mini_batches(dataset, batch_size, full=False)
    for indices in progress_bar(iterable=batches, desc=f"layers on {dataset.split}", unit="batch", leave=False):
        batch = dataset.batch(indices, cut_to_longest=mask_padding)
        teacher_states, student_states = (
            hidden_states(model, batch, range(model.config.num_hidden_layers + 1), mask_padding) for model in (teacher, student)
        )
        if len(indices) == batch_size:
            layer_maps.append(layer_map(teacher_states, student_states).cpu())
        mask = batch["attention_mask"] if mask_padding else None
        compared = student_states[penultimate(student)], teacher_states[penultimate(teacher)]
        for name, (mean, count) in batch_relations(*compared, mask).items():
            sums[name] += mean * count
            pairs[name] += count
    relations = {name: sums[name] / pairs[name] for name in RELATIONS}
    return torch.stack(layer_maps).mean(dim=0).tolist(), relations


def layer_map(teacher_states, student_states):
    """CKA [len(teacher_states), len(student_states)] in float64 of hidden states [B, S, d]; the items are the B examples."""
    teacher, student = (
        torch.stack([centered_gram(hidden.flatten(1)).double() for hidden in states])
        for states in (teacher_states, student_states)
    )
    return gram_cka(teacher[:, None], student[None])


def batch_relations(student, teacher, mask=None):
    """{name in ``RELATIONS``: (mean over the pairs, number of pairs)} of the features [B, S, d] of one mini-batch.

    Args:
        mask: [B, S], nonzero where a token counts in the pairs of tokens; None counts all.
    """
    size, length = student.shape[:2]
    tokens = torch.full((size,), length) if mask is None else mask.sum(dim=1).cpu()
    pairs = tokens.double() ** 2
    values = {}
    for metric in METRICS:
        inter = relation_difference(student.flatten(1), teacher.flatten(1), metric)
        intra = (relation_difference(student, teacher, metric, mask).double().cpu() * pairs).sum() / pairs.sum()
        values |= {f"inter_{metric}": (inter.item(), size**2), f"intra_{metric}": (intra.item(), pairs.sum().item())}
    return values
