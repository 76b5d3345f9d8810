"""The training loop, for distillation and for fine-tuning a teacher."""

import logging
import math
from typing import NamedTuple

import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

from fsd.method.global_structure import memory_products
from fsd.method.relations import relation_differences
from fsd.models.forward import forward, last_attention
from fsd.models.packing import pack
from fsd.records.checkpoints import TrainingState, save_checkpoint
from fsd.system.devices import autocast, compiled
from fsd.system.logs import progress_bar
from fsd.system.processes import average_gradients, gather, highest, rank, share, world_size
from fsd.system.random_streams import stream_seed
from fsd.system.signals import Stopped, noting_signals
from fsd.training.cka_levels import batch_ckas
from fsd.training.evaluation import evaluate, format_metrics
from fsd.training.loss_log import LossLog
from fsd.training.run import LENGTH_BUCKETS

logger = logging.getLogger(__name__)


def train(run, tracker, checkpoint=None):
    """Train ``run.student`` up to update ``run.steps``, from the start or a checkpoint; returns the seconds of all updates.

    Between logging steps, nothing is read back from the device. An update whose loss or gradient
    norm is not finite is skipped, and the next logging step or checkpoint ends the run.

    Raises:
        InputError: a loss or the gradient norm is not finite, or the checkpoint cannot be used.
        Stopped: SIGTERM or SIGINT arrived; the current step was finished and a checkpoint saved.
    """
    settings = run.settings
    optimizer, parameters = make_optimizer(run)
    scheduler = get_linear_schedule_with_warmup(optimizer, settings.warmup_steps, run.steps)
    scaler = torch.amp.GradScaler(run.device.type, enabled=settings.fp16)
    log = LossLog(run, tracker)
    state = TrainingState(run.student, run.student_memory, optimizer, scheduler, scaler, log, run.device)
    model_forward = compiled_forward(run) if settings.compile else forward
    run.student.train()
    torch.manual_seed(stream_seed(settings.seed, f"dropout of rank {rank()}" if rank() else "dropout"))
    step = state.load(checkpoint) if checkpoint else 0
    name = f"{run.objective.method} on {run.task.name}"
    with noting_signals() as signals, progress_bar(total=run.steps, initial=step, desc=name, unit="step", smoothing=0.1) as bar:
        for epoch in range(step // run.steps_per_epoch, math.ceil(run.steps / run.steps_per_epoch)):
            for batches in run.update_batches(epoch)[step % run.steps_per_epoch :][: run.steps - step]:
                logs_now = step == 0 or (step + 1) % settings.logging_steps == 0 or step + 1 == run.steps
                for indices in batches:
                    outputs = batch_outputs(run, indices, model_forward, settings.log_relations and logs_now)
                    losses = batch_losses(run, outputs)
                    total = run.objective.total(losses)
                    scaler.scale(total / len(batches)).backward()
                    log.add(losses, total, len(indices))
                curves = batch_curves(run, outputs) if logs_now else {}
                reduce_gradients(run, batches)
                scaler.unscale_(optimizer)
                is_bad = log.note(nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
                if not settings.fp16:  # with fp16 the scaler sets it
                    optimizer.found_inf = is_bad  # fused AdamW then skips the update, without a wait for the device
                scaler.step(optimizer)
                scaler.update()
                log.learning_rate = scheduler.get_last_lr()[0]
                scheduler.step()
                if run.student_memory is not None:
                    run.student_memory.drop_gradient()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                bar.update()
                if logs_now:
                    log.write(step, bar, curves)
                if settings.evaluate_during_training and step % run.steps_per_epoch == 0 and step < run.steps:
                    score_epoch(run, tracker, epoch + 1, step)
                stop = highest(signals[0] if signals else 0)[0]
                if stop or step % settings.save_steps == 0 and step < run.steps:
                    log.check(step)
                    tracker.flush()
                    saved = save_checkpoint(run.output_dir, step, settings.save_total_limit, run.tokenizer, state)
                if stop:
                    highest(0)  # wait for the writer: torchrun ends all processes when one ends
                    raise Stopped(stop, f" after step {step}: {saved} is saved; the same command with --resume goes on from it")
    return state.training_seconds()


def compiled_forward(run):
    """The compiled :func:`fsd.models.forward.forward` for both models of a run.

    At its first output of hidden states a model installs hooks. The compiler would break its graph there, so each model has
    given some before.
    """
    with torch.no_grad():
        for model in filter(None, (run.student, run.teacher)):
            forward(model, run.train_set.batch(torch.arange(1)), layers=[0])
    return compiled(forward, 4 * len(LENGTH_BUCKETS))  # two models, with some spare


def score_epoch(run, tracker, epoch, step):
    """Log the student's dev scores after an epoch."""
    metrics = evaluate(run.student, run.task, run.dev_sets, run.settings.per_gpu_eval_batch_size)
    logger.info("epoch %d: %s", epoch, format_metrics(metrics))
    tracker.scalars("dev", metrics, step)


class Outputs(NamedTuple):
    """What the models say of a batch: ``(logits [B, C], {layer: hidden states [B, S, d]})`` each, of all processes."""

    batch: dict
    student: tuple
    teacher: tuple | None


def batch_outputs(run, indices, model_forward=forward, for_relations=False):
    """Run the models on the training examples at ``indices`` [b] and return their :class:`Outputs`.

    With several processes, each runs the models on its share of the examples, and all get the outputs of the whole batch.
    ``for_relations`` asks for the teacher and the default pair of layers, whether a loss needs them or not.
    """
    objective, settings = run.objective, run.settings
    batch = run.train_set.batch(indices, settings.mask_padding, settings.length_buckets)
    own = share(len(indices))
    count = own.stop - own.start
    # Some kernels reject empty batches: a process without examples runs the first one and drops its outputs.
    rows = own if count else slice(0, 1)
    inputs = {name: values[rows] for name, values in batch.items()}
    packing = None
    if settings.mask_padding and not settings.compile:  # compiled functions want few shapes
        packing = pack(run.train_set.lengths[indices[rows]], batch["input_ids"].shape[1])
        packing = packing and packing.to(run.train_set.on_device)
    pairs = dict.fromkeys([*objective.compared_pairs, *[objective.default_pair] * for_relations])
    teacher_layers, student_layers = [layer for layer, _ in pairs], [layer for _, layer in pairs]
    if count != settings.per_gpu_train_batch_size:
        model_forward = forward  # do not compile for the one smaller batch of an epoch
    teacher = None
    with autocast(run.device, settings.precision):
        if run.teacher_cache is not None:
            teacher = run.teacher_cache.batch(indices[rows], batch["input_ids"].shape[1], teacher_layers)
        elif objective.needs_teacher or for_relations:
            with torch.no_grad():
                teacher = model_forward(run.teacher, inputs, teacher_layers, packing)
        student = model_forward(run.student, inputs, student_layers, packing)
    return Outputs(batch, gathered(student, len(indices)), teacher and gathered(teacher, len(indices)))


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
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, eps=settings.adam_epsilon, fused=True)
    return optimizer, [parameter for group in groups for parameter in group["params"]]
