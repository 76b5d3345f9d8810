"""Layers and relations: how the structures of teacher and student compare on dev, in one pass."""

import torch

from fsd.analysis.features import hidden_states, mini_batches, penultimate
from fsd.method.chance import gram_chance
from fsd.method.cka import FEWEST_DEBIASED, centered_gram, debiased_center, gram_cka
from fsd.method.relations import RELATIONS, relation_differences
from fsd.system.logs import progress_bar


def layers_and_relations(teacher, student, dataset, batch_size, mask_padding=False):
    """(CKA maps of every layer against every layer, the four relation differences) over the mini-batches of a dataset.

    Args:
        teacher, student: models in eval mode, on the dataset's device.
        batch_size: examples in a mini-batch.
        mask_padding: set padded positions to zero, and leave them out of the pairs of tokens.

    Returns:
        {"map", "chance_map", "minibatch_map"}, each L_T + 1 lists of L_S + 1 numbers, of the flattened features [B, S·d] of
        layer i of the teacher and layer j of the student; layer 0 is the output of the embeddings. ``map`` is the mean CKA of
        the full mini-batches and ``chance_map`` that of their chance levels. ``minibatch_map`` is the minibatch CKA: the
        unbiased HSICs are summed over the mini-batches before the ratio. It is None if a mini-batch has under four examples.
        {name in ``RELATIONS``: value}: the relation differences of the penultimate layers, the mean over all pairs of all
        mini-batches.

    Source: the paper's Eq. 12 and 13 for the relations; the layer map is ours. Minibatch CKA: Nguyen et al. 2021 (arXiv
    2010.15327), Eq. 2.
    """
    layer_maps, products, sums, pairs = [], 0, dict.fromkeys(RELATIONS, 0.0), dict.fromkeys(RELATIONS, 0)
    batches = mini_batches(dataset, batch_size, full=False)
    for indices in progress_bar(iterable=batches, desc=f"layers on {dataset.split}", unit="batch", leave=False):
        batch = dataset.batch(indices, cut_to_longest=mask_padding)
        teacher_states, student_states = (
            hidden_states(model, batch, range(model.config.num_hidden_layers + 1), mask_padding) for model in (teacher, student)
        )
        if len(indices) == batch_size:
            of_teacher, of_student = layer_grams(teacher_states)[:, None], layer_grams(student_states)[None]
            levels = gram_cka(of_teacher, of_student), gram_chance(of_teacher, of_student)
            layer_maps.append(torch.stack(levels).cpu())
            products += hsic_products(of_teacher, of_student).cpu()
        mask = batch["attention_mask"] if mask_padding else None
        compared = student_states[penultimate(student)], teacher_states[penultimate(teacher)]
        tokens = (torch.ones_like(batch["input_ids"]) if mask is None else mask).sum(dim=1)
        for name, value in relation_differences(*compared, mask).items():
            count = tokens.double() ** 2 if name.startswith("intra") else torch.tensor(len(indices) ** 2)
            sums[name] += (value.double() * count).sum().item()
            pairs[name] += count.sum().item()
    relations = {name: sums[name] / pairs[name] for name in RELATIONS}
    cka, chance = torch.stack(layer_maps).mean(dim=0).tolist()
    minibatch = minibatch_cka(products).tolist() if batch_size >= FEWEST_DEBIASED else None
    return {"map": cka, "chance_map": chance, "minibatch_map": minibatch}, relations


def layer_grams(states):
    """Centred Gram matrices [L + 1, B, B] in float64 of hidden states [B, S, d]; the items are the B examples."""
    return torch.stack([centered_gram(hidden.flatten(1)).double() for hidden in states])


def hsic_products(of_teacher, of_student):
    """n(n − 3) times the unbiased HSIC of teacher and student, teacher and itself, student and itself: [3, L_T + 1, L_S + 1]."""
    teacher, student = debiased_center(of_teacher), debiased_center(of_student)
    pairs = (teacher, student), (teacher, teacher), (student, student)
    return torch.stack(torch.broadcast_tensors(*((one * other).sum(dim=(-2, -1)) for one, other in pairs)))


def minibatch_cka(products):
    """Minibatch CKA [L_T + 1, L_S + 1] from the sums of :func:`hsic_products` over mini-batches; 0 without variance."""
    both, teacher, student = products
    norm = (teacher * student).sqrt()
    return torch.where(norm > 0, both / torch.where(norm > 0, norm, 1), 0)
