"""One update of the student: the losses of its batches, their gradients, and the optimizer's step."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fsd.models.forward import forward
from fsd.system.processes import average_gradients, world_size
from fsd.training.batch import batch_curves, batch_inputs, batch_losses, batch_outputs
from fsd.training.loss_log import LossLog
from fsd.training.run import Run
from fsd.training.step_graphs import StepGraphs


@dataclass
class Update:
    """Updates a run's student, and any student memory. Reads nothing back from the device, but for curves.

    Where the losses or the gradient norm are not finite, the update changes nothing, and ``log`` counts it.
    """

    run: Run
    optimizer: torch.optim.Optimizer
    parameters: list
    scaler: torch.amp.GradScaler
    log: LossLog
    model_forward: Any = forward

    def __post_init__(self):
        groups = self.optimizer.param_groups
        self.graphs = StepGraphs(self._step) if self.run.settings.cuda_graphs else None
        # A graph reads the learning rates from the device: as numbers, those of its recording would be in it for good.
        self.rates = [torch.zeros((), device=self.run.device) for _ in groups] if self.graphs else []

    def __call__(self, batches, logs_now=False):
        """Update by batches of example indices. With ``logs_now``, returns what ``batch_curves`` says of the last one."""
        for_relations = logs_now and self.run.settings.log_relations
        self._set_rates()
        for indices in batches:
            outputs = self._backward(batch_inputs(self.run, indices, for_relations), len(batches), for_relations)
            self.log.count(len(indices))
        curves = batch_curves(self.run, outputs) if logs_now else {}
        reduce_gradients(self.run, batches)
        self._apply()
        return curves

    def replay(self, indices):
        """Update by one batch, with the CUDA graph of its shape."""
        self._set_rates()
        self.graphs.run(batch_inputs(self.run, indices))
        self.log.count(len(indices))

    def _step(self, inputs):
        self._backward(inputs)
        self._apply()

    def _backward(self, inputs, batches=1, for_relations=False):
        outputs = batch_outputs(self.run, inputs, self.model_forward, for_relations)
        losses = batch_losses(self.run, outputs)
        total = self.run.objective.total(losses)
        self.scaler.scale(total / batches).backward()
        self.log.add(losses, total)
        return outputs

    def _apply(self):
        """Clip the gradients, take the optimizer's step, and drop the gradients."""
        settings, memory = self.run.settings, self.run.student_memory
        self.scaler.unscale_(self.optimizer)
        is_bad = self.log.note(nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm))
        if not settings.fp16:  # with fp16 the scaler sets it
            self.optimizer.found_inf = is_bad  # fused AdamW then skips the update, without a wait for the device
        numbers = self._swap_rates(self.rates)
        self.scaler.step(self.optimizer)
        self._swap_rates(numbers)
        self.scaler.update()
        if memory is not None:
            memory.drop_gradient()
        self.optimizer.zero_grad(set_to_none=True)

    def _set_rates(self):
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=False):
            rate.fill_(group["lr"])

    def _swap_rates(self, rates):
        """Give the optimizer's groups these learning rates, if there are any, and return the old ones."""
        groups = self.optimizer.param_groups
        old = [group["lr"] for group in groups] if rates else []
        for group, rate in zip(groups, rates, strict=False):
            group["lr"] = rate
        return old


def reduce_gradients(run, batches):
    """Give every process the gradients of an update's ``batches`` over all processes; see :mod:`fsd.system.processes`.

    All processes have the same gradient of the student memory already. Of the word embeddings, only the rows of the
    batches' tokens have a gradient, so only they are sent.
    """
    if world_size() > 1:
        embeddings = run.student.get_input_embeddings().weight
        others = [parameter for parameter in run.student.parameters() if parameter is not embeddings]
        average_gradients(others, embeddings, token_rows(run.train_set, torch.cat(batches), len(embeddings)))


def token_rows(dataset, indices, vocabulary_size):
    """The ids of all tokens in the examples at ``indices``, each once, and some more: one id for each token and for padding.

    The number of different ids is on the device. To read it would be to wait for the device, so their upper limit counts.
    """
    present = torch.zeros(vocabulary_size, dtype=torch.uint8, device=dataset.device)
    present.index_fill_(0, dataset.batch(indices)["input_ids"].flatten(), 1)
    count = int(dataset.lengths[indices].sum()) + 1
    return present.argsort(descending=True, stable=True)[:count]  # a stable sort is the same on every machine


def make_optimizer(run):
    """Fused AdamW over the student and any student memory; and the list of their parameters."""
    settings, memory = run.settings, [] if run.student_memory is None else [run.student_memory.centroids]
    exempt = ("bias", "Norm.weight", "norm.weight")
    decayed = [p for name, p in run.student.named_parameters() if not name.endswith(exempt)]
    others = [p for name, p in run.student.named_parameters() if name.endswith(exempt)]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.memory_learning_rate is None:
        decayed += memory
    else:
        groups.append({"params": memory, "weight_decay": settings.weight_decay, "lr": settings.memory_learning_rate})
    optimizer = torch.optim.AdamW(
        groups, lr=settings.learning_rate, eps=settings.adam_epsilon, fused=True, capturable=settings.cuda_graphs
    )
    return optimizer, [parameter for group in groups for parameter in group["params"]]
