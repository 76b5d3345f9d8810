"""Layers and relations: how the structures of teacher and student compare on dev, in one pass."""

import torch

from fsd.analysis.features import hidden_states, mini_batches, penultimate
from fsd.method.cka import centered_gram, gram_cka
from fsd.method.relations import RELATIONS, relation_differences
from fsd.system.logs import progress_bar


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
        tokens = (torch.ones_like(batch["input_ids"]) if mask is None else mask).sum(dim=1)
        for name, value in relation_differences(*compared, mask).items():
            count = tokens.double() ** 2 if name.startswith("intra") else torch.tensor(len(indices) ** 2)
            sums[name] += (value.double() * count).sum().item()
            pairs[name] += count.sum().item()
    relations = {name: sums[name] / pairs[name] for name in RELATIONS}
    return torch.stack(layer_maps).mean(dim=0).tolist(), relations


def layer_map(teacher_states, student_states):
    """CKA [len(teacher_states), len(student_states)] in float64 of hidden states [B, S, d]; the items are the B examples."""
    teacher, student = (
        torch.stack([centered_gram(hidden.flatten(1)).double() for hidden in states])
        for states in (teacher_states, student_states)
    )
    return gram_cka(teacher[:, None], student[None])
