"""The training loop, for distillation and for fine-tuning a teacher alike."""

import math
import time
from dataclasses import dataclass, field

import torch
from torch import nn
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from fsd import distributed
from fsd.checkpoints import TrainingState, save_checkpoint
from fsd.evaluation import evaluate
from fsd.files import InputError, is_main_process
from fsd.hardware import LENGTH_BUCKETS, autocast, compiled, half_precision
from fsd.losses import MemoryProducts, memory_products
from fsd.models import forward
from fsd.objective import LOWERED_BY, Objective
from fsd.seeds import stream_seed
from fsd.stopping import Stopped, noting_signals
from fsd.teacher_cache import TeacherCache
from fsd.tracking import Tracker, logger

GROUPED_BATCHES = 50  # batches among which --group_by_length sorts: few enough to stay random, enough to be alike
DOMINATES = 100  # a weighted loss this many times all the others together is warned of


@dataclass
class Run:
    """All that one training run works on; models and data already on ``device``."""

    args: object
    task: object
    objective: Objective
    device: torch.device
    tokenizer: object
    student: nn.Module
    train_set: object
    dev_sets: list
    teacher: nn.Module | None = None
    student_memory: nn.Module | None = None
    teacher_memory: MemoryProducts | None = None
    teacher_cache: TeacherCache | None = None
    steps: int = field(init=False)

    def __post_init__(self):
        args = self.args
        self.full_batch_forward = compiled(forward) if args.compile else forward
        self.length_buckets = [math.ceil(args.max_seq_length * share) for share in LENGTH_BUCKETS] if args.compile else []
        self.batch_size = args.per_gpu_train_batch_size * distributed.world_size()
        batches = math.ceil(len(self.train_set) / self.batch_size)
        self.steps_per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
        self.steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * self.steps_per_epoch)


def train(run, tracker: Tracker, checkpoint=None):
    """Train ``run.student`` for ``run.steps`` updates, from the first or on from a checkpoint-N; returns the seconds of all.

    Between logging steps nothing is read back from the device. An update whose loss or gradient norm is not finite is
    not applied, nor is any after it; the next logging step or checkpoint says so.

    Raises:
        InputError: a loss or the gradient norm is not finite, or the checkpoint cannot be used.
        Stopped: SIGTERM or SIGINT came; the step was ended and a checkpoint saved.
    """
    args = run.args
    optimizer, parameters = make_optimizer(run)
    scheduler = get_linear_schedule_with_warmup(optimizer, args.warmup_steps, run.steps)
    scaler = torch.amp.GradScaler(run.device.type, enabled=args.fp16)
    log = LossLog(run, tracker)
    state = TrainingState(run.student, run.student_memory, optimizer, scheduler, scaler, log, run.device)
    run.student.train()
    rank = distributed.rank()
    torch.manual_seed(stream_seed(args.seed, f"dropout of rank {rank}" if rank else "dropout"))
    step = state.load(checkpoint) if checkpoint else 0
    bar = tqdm(total=run.steps, initial=step, desc=f"{run.objective.method} on {run.task.name}", unit="step", smoothing=0.1,
               disable=not is_main_process())
    with noting_signals() as signals, bar:
        for epoch in range(step // run.steps_per_epoch, math.ceil(run.steps / run.steps_per_epoch)):
            for batches in update_batches(run, epoch)[step % run.steps_per_epoch :][: run.steps - step]:
                for indices in batches:
                    losses = batch_losses(run, indices)
                    total = run.objective.total(losses)
                    scaler.scale(total / len(batches)).backward()
                    log.add(losses, total, len(indices))
                distributed.average_gradients(parameters)
                scaler.unscale_(optimizer)
                norm = nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)
                optimizer.found_inf = log.not_finite(norm)  # where it is 1, the fused step leaves all as it was
                optimizer.step()
                scaler.update()
                log.learning_rate = scheduler.get_last_lr()[0]
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                bar.update()
                if step == 1 or step % args.logging_steps == 0 or step == run.steps:
                    log.write(step, bar)
                if args.evaluate_during_training and step % run.steps_per_epoch == 0 and step < run.steps:
                    metrics = evaluate(run.student, run.task, run.dev_sets, args.per_gpu_eval_batch_size)
                    logger.info("epoch %d: %s", epoch + 1, format_values(metrics))
                    tracker.scalars("dev", metrics, step)
                stop = distributed.highest(signals[0] if signals else 0)[0]
                if stop or step % args.save_steps == 0 and step < run.steps:
                    log.check(step)
                    tracker.flush()
                    saved = save_checkpoint(args.output_dir, step, args.save_total_limit, run.tokenizer, state)
                if stop:
                    distributed.highest(0)  # torchrun ends all processes when one has ended: not while one still writes
                    raise Stopped(stop, f" after step {step}: {saved} is saved; the same command with --resume goes on from it")
    return state.training_seconds()


def batch_losses(run, indices):
    """The unweighted losses of the training examples at ``indices`` [b]: {name: scalar}.

    Of several processes each runs the models on its share of the examples, and computes the losses of all.
    """
    objective, args = run.objective, run.args
    batch = run.train_set.batch(indices, args.mask_padding, run.length_buckets)
    share = distributed.share(len(indices))
    count = share.stop - share.start
    # A process without examples runs the first and leaves its outputs out: kernels need not take empty batches.
    taken = share if count else slice(0, 1)
    inputs = {name: values[taken] for name, values in batch.items()}
    pairs = objective.compared_pairs
    # A compilation for the one batch of an epoch that is smaller would not pay.
    model_forward = run.full_batch_forward if count == args.per_gpu_train_batch_size else forward
    teacher = None
    with autocast(run.device, half_precision(args)):
        if run.teacher_cache is not None:
            teacher = run.teacher_cache.batch(indices[taken], batch["input_ids"].shape[1])
        elif objective.needs_teacher:
            with torch.no_grad():
                teacher = model_forward(run.teacher, inputs, [layer for layer, _ in pairs])
        student = model_forward(run.student, inputs, [layer for _, layer in pairs])
    student, teacher = gathered(student, len(indices)), teacher and gathered(teacher, len(indices))
    memory = memory_products(run.student_memory.centroids) if objective.needs_memory else None
    mask = batch["attention_mask"] if args.mask_padding else None
    return objective.losses(student, teacher, batch["labels"], mask, memory, run.teacher_memory)


def gathered(outputs, count):
    """Logits and hidden states of all ``count`` examples of a batch, from those of this process's share."""
    logits, hidden = outputs
    return distributed.gather(logits, count), {layer: distributed.gather(states, count) for layer, states in hidden.items()}


def update_batches(run, epoch):
    """For each update of an epoch the list of its batches, each a tensor of example indices; shuffled by the seed.

    A batch is that of all processes. What does not fill one is one of its own: the epoch's last, or with
    ``--group_by_length`` anywhere. The last update takes the batches that are left.
    """
    args = run.args
    generator = torch.Generator().manual_seed(stream_seed(args.seed, f"order {epoch}"))
    order = torch.randperm(len(run.train_set), generator=generator)
    if args.group_by_length:
        chunks = order.split(GROUPED_BATCHES * run.batch_size)
        order = torch.cat([chunk[run.train_set.lengths[chunk].argsort(stable=True)] for chunk in chunks])
    batches = order.split(run.batch_size)
    if args.group_by_length:
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    group = args.gradient_accumulation_steps
    return [batches[start : start + group] for start in range(0, len(batches), group)]


def make_optimizer(run):
    """Fused AdamW over the student and, where there is one, the student memory; and the list of their parameters."""
    named = list(run.student.named_parameters())
    if run.student_memory is not None:
        named += run.student_memory.named_parameters()
    exempt = ("bias", "LayerNorm.weight")
    decayed = [p for name, p in named if not name.endswith(exempt)]
    others = [p for name, p in named if name.endswith(exempt)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": run.args.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=run.args.learning_rate, eps=run.args.adam_epsilon, fused=True,
    )
    return optimizer, decayed + others


class LossLog:
    """Sums the losses on the device, and at logging steps reads and shows their means since the last.

    Beside them it keeps there whether an update had a loss or a gradient norm that is not finite, and which was first.
    """

    def __init__(self, run, tracker):
        self.run, self.tracker = run, tracker
        self.names = (*run.objective.weights, "total")
        self.learning_rate = run.args.learning_rate
        self.window_start = time.perf_counter()
        self.total_written = False
        self.bad = torch.zeros((), dtype=torch.bool, device=run.device)
        self.bad_updates = torch.zeros((), dtype=torch.int64, device=run.device)  # the first bad one and all since
        self.bad_sums = torch.zeros(len(self.names), device=run.device)  # the sums when it came
        self._reset()

    def _reset(self):
        self.sums, self.batches, self.examples = torch.zeros(len(self.names), device=self.run.device), 0, 0

    def add(self, losses, total, examples):
        """Add one batch's losses, without waiting for them."""
        self.sums += torch.stack([*losses.values(), total]).detach()
        self.batches += 1
        self.examples += examples

    def not_finite(self, norm):
        """1.0 on the device if the update with this gradient norm must be left out, else 0.0, without waiting for it.

        With ``--fp16`` a norm alone that is not finite is no trouble: the loss was scaled too high, which the scaler mends.
        """
        bad_loss, bad_norm = ~torch.isfinite(self.sums).all(), ~torch.isfinite(norm)
        self.bad_sums = torch.where(self.bad, self.bad_sums, self.sums)
        self.bad = self.bad | (bad_loss if self.run.args.fp16 else bad_loss | bad_norm)
        self.bad_updates += self.bad
        return (self.bad | bad_norm).float()

    def check(self, step):
        """Read from the device whether any update up to ``step`` was bad, and end the run if so."""
        if not self.bad.item():
            return
        run, step = self.run, step - self.bad_updates.item() + 1
        epoch, position = divmod(step - 1, run.steps_per_epoch)
        examples = torch.cat(update_batches(run, epoch)[position])
        if run.train_set.rows is not None:
            examples = run.train_set.rows[examples]
        sums = dict(zip(self.names, self.bad_sums.tolist(), strict=True))
        what = next((f"{name} is {value}" for name, value in sums.items() if not math.isfinite(value)),
                    "the gradient norm is not finite")
        raise InputError(
            f"{what} at step {step}, whose update was left out; its examples in {run.train_set.split}, counted from 0: "
            f"{', '.join(map(str, examples.tolist()))}; lower --learning_rate or the loss's weight"
        )

    def write(self, step, bar):
        """Read the means and send them to the bar, to TensorBoard, and the first time to the log."""
        self.check(step)
        means = dict(zip(self.names, (self.sums / self.batches).tolist(), strict=True))
        now = time.perf_counter()
        rate = self.examples / (now - self.window_start)
        self.window_start = now
        bar.set_postfix_str(f"loss {means['total']:.4g}, {rate:.1f} examples/s")
        self.tracker.scalars("train", means, step)
        self.tracker.scalars("train", {"learning_rate": self.learning_rate, "examples_per_second": rate}, step)
        if not self.total_written:
            self.total_written = True
            self._write_shares(means)
        self._reset()

    def state(self):
        """(tensors, plain values) of the sums since the last logging step, for a checkpoint."""
        elapsed = time.perf_counter() - self.window_start
        return {"sums": self.sums}, {"batches": self.batches, "examples": self.examples, "elapsed": elapsed}

    def load_state(self, tensors, values):
        """Go on with the sums of a run that was written out after its first step."""
        self.sums.copy_(tensors["sums"])
        self.batches, self.examples, self.total_written = values["batches"], values["examples"], True
        self.window_start -= values["elapsed"]

    def _write_shares(self, means):
        weighted = {name: weight * means[name] for name, weight in self.run.objective.weights.items()}
        whole = sum(abs(value) for value in weighted.values()) or 1.0
        parts = (f"{name} {value:.4g} ({abs(value) / whole:.1%})" for name, value in weighted.items())
        logger.info("weighted losses at the first step: %s", ", ".join(parts))
        for name, value in weighted.items():
            if len(weighted) > 1 and abs(value) > DOMINATES * (whole - abs(value)):
                logger.warning("%s is over %d times all the others together; %s lowers it", name, DOMINATES, LOWERED_BY[name])


def format_values(values):
    """"name value, name value, …" with four digits."""
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())
