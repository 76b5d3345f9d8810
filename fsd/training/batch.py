"""One batch of a run: its inputs, what the models say of it, its losses and its curves."""

from typing import NamedTuple

import torch

from fsd.method.global_structure import memory_products
from fsd.method.relations import relation_differences
from fsd.models.forward import forward, last_attention
from fsd.models.packing import Packing, pack
from fsd.system.devices import autocast
from fsd.system.processes import gather, share
from fsd.training.cka_levels import batch_ckas


class Inputs(NamedTuple):
    """The inputs of a batch's losses, on the run's device."""

    batch: dict  # the encoded examples of all processes, see EncodedDataset.batch
    rows: slice  # this process's part of them
    packing: Packing | None  # of that part
    teacher: tuple | None  # what the cache holds of it: (logits [b, C], {layer: hidden states [b, S, d]})

    def tensors(self):
        """All tensors but the packing's."""
        logits, hidden = self.teacher or (None, {})
        return [*self.batch.values(), *[logits] * (logits is not None), *hidden.values()]

    def copied(self):
        """The same with a copy of each tensor."""
        teacher = self.teacher and (self.teacher[0].clone(), {layer: states.clone() for layer, states in self.teacher[1].items()})
        return self._replace(batch={name: values.clone() for name, values in self.batch.items()}, teacher=teacher)


class Outputs(NamedTuple):
    """What the models say of a batch: ``(logits [B, C], {layer: hidden states [B, S, d]})`` each, of all processes."""

    batch: dict
    student: tuple
    teacher: tuple | None


def batch_inputs(run, indices, for_relations=False):
    """The :class:`Inputs` of the training examples at ``indices`` [b].

    ``for_relations`` asks for the default pair of layers, whether a loss needs it or not.
    """
    settings = run.settings
    batch = run.train_set.batch(indices, settings.mask_padding, settings.length_buckets)
    own = share(len(indices))
    # Some kernels reject empty batches: a process without examples runs the first one and drops its outputs.
    rows = own if own.stop > own.start else slice(0, 1)
    packing = teacher = None
    if settings.mask_padding and not settings.length_buckets:  # where shapes should be few, nothing is packed
        packing = pack(run.train_set.lengths[indices[rows]], batch["input_ids"].shape[1])
        packing = packing and packing.to(run.train_set.on_device)
    if run.teacher_cache is not None:
        layers = [layer for layer, _ in compared_pairs(run.objective, for_relations)]
        teacher = run.teacher_cache.batch(indices[rows], batch["input_ids"].shape[1], layers)
    return Inputs(batch, rows, packing, teacher)


def compared_pairs(objective, for_relations):
    """The pairs of layers that a batch's losses compare, and with ``for_relations`` the default pair."""
    return list(dict.fromkeys([*objective.compared_pairs, *[objective.default_pair] * for_relations]))


def batch_outputs(run, inputs, model_forward=forward, for_relations=False):
    """Run the models on a batch's :class:`Inputs` and return their :class:`Outputs`.

    With several processes, each runs the models on its share of the examples, and all get the outputs of the whole batch.
    ``for_relations`` asks for the teacher and the default pair of layers, whether a loss needs them or not.
    """
    count = len(inputs.batch["input_ids"])
    own = {name: values[inputs.rows] for name, values in inputs.batch.items()}
    pairs = compared_pairs(run.objective, for_relations)
    teacher_layers, student_layers = [layer for layer, _ in pairs], [layer for _, layer in pairs]
    if len(own["input_ids"]) != run.settings.per_gpu_train_batch_size:
        model_forward = forward  # do not compile for the one smaller batch of an epoch
    teacher = inputs.teacher
    with autocast(run.device, run.settings.precision):
        if teacher is None and (run.objective.needs_teacher or for_relations):
            with torch.no_grad():
                teacher = model_forward(run.teacher, own, teacher_layers, inputs.packing)
        student = model_forward(run.student, own, student_layers, inputs.packing)
    return Outputs(inputs.batch, gathered(student, count), teacher and gathered(teacher, count))


def batch_losses(run, outputs):
    """The unweighted losses of a batch's :class:`Outputs`: {name: scalar}."""
    objective, mask = run.objective, outputs.batch["attention_mask"]
    memory = memory_products(run.student_memory.centroids, run.student_memory.spare) if objective.needs_memory else None
    attention = None
    if objective.needs_attention:
        (t, s), (_, student_hidden), (_, teacher_hidden) = objective.default_pair, outputs.student, outputs.teacher
        with torch.no_grad():
            of_teacher = last_attention(run.teacher, teacher_hidden[t])
        attention = last_attention(run.student, student_hidden[s]), of_teacher, mask
    return objective.losses(
        outputs.student, outputs.teacher, outputs.batch["labels"], mask if run.settings.mask_padding else None, memory,
        run.teacher_memory, attention,
    )


def batch_curves(run, outputs):
    """What a logging step writes of a batch's :class:`Outputs` beside the losses: {"cka": {…}, "relations": {…}}."""
    (_, student_hidden), (_, teacher_hidden) = outputs.student, outputs.teacher or (None, None)
    mask = outputs.batch["attention_mask"] if run.settings.mask_padding else None
    curves = {"cka": batch_ckas(run, student_hidden, teacher_hidden, mask)}
    return curves | {"relations": batch_relations(run, outputs)} if run.settings.log_relations else curves


@torch.no_grad()
def batch_relations(run, outputs):
    """The four relation differences of a batch's :class:`Outputs`: {name: value, the mean over its examples}."""
    (t, s), (_, student_hidden), (_, teacher_hidden) = run.objective.default_pair, outputs.student, outputs.teacher
    mask = outputs.batch["attention_mask"] if run.settings.mask_padding else None
    differences = relation_differences(student_hidden[s], teacher_hidden[t], mask)
    return {name: value.mean().item() for name, value in differences.items()}


def gathered(outputs, count):
    """Logits and hidden states of all ``count`` examples of a batch, gathered from every process's share."""
    logits, hidden = outputs
    return gather(logits, count), {layer: gather(states, count) for layer, states in hidden.items()}
