"""The training loop, for distillation and for fine-tuning a teacher."""

import logging
import math

import torch
from transformers import get_linear_schedule_with_warmup

from fsd.models.forward import forward
from fsd.records.checkpoints import TrainingState, save_checkpoint
from fsd.system.devices import compiled, side_stream
from fsd.system.logs import progress_bar
from fsd.system.processes import highest, rank, wait_for_all
from fsd.system.random_streams import stream_seed
from fsd.system.signals import Stopped, noting_signals
from fsd.training.evaluation import evaluate, format_metrics
from fsd.training.loss_log import LossLog
from fsd.training.run import LENGTH_BUCKETS
from fsd.training.update import Update, make_optimizer

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
    update = Update(run, optimizer, parameters, scaler, log, compiled_forward(run) if settings.compile else forward)
    run.student.train()
    torch.manual_seed(stream_seed(settings.seed, f"dropout of rank {rank()}" if rank() else "dropout"))
    step = state.load(checkpoint) if checkpoint else 0
    name = f"{run.objective.method} on {run.task.name}"
    bar = progress_bar(total=run.steps, initial=step, desc=name, unit="step", smoothing=0.1)
    with noting_signals() as signals, bar, side_stream(run.device):
        for epoch in range(step // run.steps_per_epoch, math.ceil(run.steps / run.steps_per_epoch)):
            for batches in run.update_batches(epoch)[step % run.steps_per_epoch :][: run.steps - step]:
                logs_now = step == 0 or (step + 1) % settings.logging_steps == 0 or step + 1 == run.steps
                if settings.cuda_graphs and not logs_now and len(batches[0]) == run.batch_size:
                    update.replay(batches[0])
                else:
                    curves = update(batches, logs_now)
                log.learning_rate = scheduler.get_last_lr()[0]
                scheduler.step()
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
                    wait_for_all()  # the writer too: torchrun ends all processes when one ends
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
