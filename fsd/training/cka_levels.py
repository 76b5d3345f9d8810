"""The CKA of a batch's structures, beside what CKA says by chance."""

import torch

from fsd.method.chance import gram_chance, shuffled_cka
from fsd.method.cka import center, centered_gram, gram_cka
from fsd.method.losses import zero_padding
from fsd.method.similarity import fewest_items, structure_gram

STRUCTURES = ("intra", "local_inter", "memory_cka")


@torch.no_grad()
def batch_ckas(run, student_hidden, teacher_hidden, mask=None):
    """The CKA of each structure that a run's objective has a weight for, and its two chance levels.

    Args:
        student_hidden, teacher_hidden: {layer: [B, S, d]}, at least for the pairs that the objective compares.
        mask: [B, S], zero at padding, which no structure then counts; or None.

    Returns:
        {"NAME": CKA, "NAME_chance": the formula's level, "NAME_shuffled": that of shuffled pairs}, for the names in
        ``STRUCTURES``. ``intra`` is the mean over the examples, and both it and ``local_inter`` that over the layer pairs. With
        ``debiased``, all three numbers are those of the debiased CKA, and the formula's level is 0. Whatever similarity the
        losses take, this is CKA: it tells of the features. A structure with too few items is left out.
    """
    objective, levels = run.objective, {}
    of_layers = {"intra", "local_inter"} & set(objective.weights)
    pairs = [(teacher_hidden[t], student_hidden[s]) for t, s in objective.pairs] if of_layers else []
    if "intra" in objective.weights:
        grams = [[structure_gram(side, mask=mask) for side in pair] for pair in pairs]
        levels["intra"] = [_levels(*pair, objective.debiased, mask) for pair in grams]
    if "local_inter" in objective.weights:
        grams = [[centered_gram(zero_padding(side, mask).flatten(1)) for side in pair] for pair in pairs]
        levels["local_inter"] = [_levels(*pair, objective.debiased) for pair in grams]
    if "memory_cka" in objective.weights:
        student_gram = centered_gram(run.student_memory.centroids.flatten(1))
        levels["memory_cka"] = [_levels(center(run.teacher_memory.gram), student_gram, objective.debiased)]
    found = {name: torch.cat(values, dim=1) for name, values in levels.items()}
    return {
        name + suffix: value for name, values in found.items() if values.numel()
        for suffix, value in zip(("", "_chance", "_shuffled"), values.mean(dim=1).tolist(), strict=True)
    }


def describe_ckas(ckas, debiased=False):
    """What :func:`batch_ckas` returned, in words."""
    parts = [
        f"{name} {ckas[name]:.4f} (by chance {ckas[name + '_chance']:.4f}, shuffled pairs {ckas[name + '_shuffled']:.4f})"
        for name in STRUCTURES if name in ckas
    ]
    return f"{'debiased ' * debiased}CKA at the first step: {', '.join(parts)}"


def _levels(teacher_gram, student_gram, debiased, mask=None):
    """CKA, chance and shuffled level, [3, n], of those of the n pairs of Gram matrices that have enough items."""
    cka = gram_cka(teacher_gram, student_gram, debiased, mask)
    chance = torch.zeros_like(cka) if debiased else gram_chance(teacher_gram, student_gram, mask)
    levels = torch.stack([cka, chance, shuffled_cka(teacher_gram, student_gram, debiased, mask)]).view(3, -1)
    items = torch.tensor(teacher_gram.shape[-1]) if mask is None else (mask != 0).sum(dim=-1)
    return levels[:, (items >= fewest_items(debiased)).expand(cka.shape).reshape(-1)]
