"""The losses of a run: summed on the device, read and shown at logging steps."""

import logging
import math
import time

import torch

from fsd.system.errors import InputError
from fsd.system.hashes import tensor_hash
from fsd.system.logs import duration
from fsd.system.processes import check_same, world_size
from fsd.training.cka_levels import describe_ckas

logger = logging.getLogger(__name__)

DOMINATES = 100  # warn of a weighted loss this many times larger than all others together
DIFFERENT_ARITHMETIC = "their machines differ in arithmetic: use processors or GPUs of one kind, and one OMP_NUM_THREADS"
LOWERED_BY = {  # the flag that lowers each loss's weight
    "task_loss": "--alpha", "dark_knowledge": "--alpha or --temperature", "intra": "--beta or --gamma_i",
    "local_inter": "--beta or --gamma_l", "global_distance": "--gamma_m or --beta", "global_cosine": "--beta or --gamma_g",
    "memory_cka": "--beta or --gamma_g", "pkd": "--beta", "rkd_distance": "--rkd_distance", "rkd_angle": "--rkd_angle",
    "attention": "--beta", "value_relation": "--beta",
}


class LossLog:
    """Sums the losses on the device. At each logging step it reads and shows the means since the last one.

    It also finds the first update whose losses or gradient norm are not finite.
    """

    def __init__(self, run, tracker):
        self.run, self.tracker = run, tracker
        self.names = (*run.objective.weights, "total")
        self.learning_rate = run.settings.learning_rate
        self.window_start = time.perf_counter()
        self.bad_updates = torch.zeros((), dtype=torch.int64, device=run.device)  # counts the first bad update and all after it
        self.bad_sums = torch.zeros(len(self.names), device=run.device)  # the sums at the first bad update
        self.sums = torch.zeros(len(self.names), device=run.device)
        self.batches = self.examples = 0

    def add(self, losses, total):
        """Add one batch's losses, without waiting for the device."""
        self.sums += torch.stack([*losses.values(), total]).detach()

    def count(self, examples):
        """Count one batch of so many examples."""
        self.batches += 1
        self.examples += examples

    def note(self, norm):
        """Note on the device whether this or an earlier update is bad: its losses or gradient norm are not finite.

        Returns:
            1.0 if so, else 0.0, on the device.

        With ``--fp16`` only the losses count: if the norm overflows, the scaler skips the update and lowers its scale.
        """
        bad = ~torch.isfinite(self.sums).all()
        if not self.run.settings.fp16:
            bad = bad | ~torch.isfinite(norm)
        self.bad_sums.copy_(torch.where(self.bad_updates > 0, self.bad_sums, self.sums))
        self.bad_updates += bad | (self.bad_updates > 0)
        return (self.bad_updates > 0).float()

    def check(self, step):
        """Raise an ``InputError`` if any update up to ``step`` was bad, or if the processes' student memories differ."""
        memory = self.run.student_memory
        if memory is not None and world_size() > 1:
            check_same({"student memory": tensor_hash(memory.state_dict())}, DIFFERENT_ARITHMETIC)
        if not (bad_updates := self.bad_updates.item()):
            return
        run, step = self.run, step - bad_updates + 1
        epoch, position = divmod(step - 1, run.steps_per_epoch)
        examples = torch.cat(run.update_batches(epoch)[position])
        if run.train_set.rows is not None:
            examples = run.train_set.rows[examples]
        sums = dict(zip(self.names, self.bad_sums.tolist(), strict=True))
        what = next((f"{name} is {value}" for name, value in sums.items() if not math.isfinite(value)),
                    "the gradient norm is not finite")
        raise InputError(
            f"{what} at step {step}, whose update was left out; its examples in {run.train_set.split}, counted from 0: "
            f"{', '.join(map(str, examples.tolist()))}; lower --learning_rate or the loss's weight"
        )

    def write(self, step, bar, curves):
        """Send the mean losses to the progress bar, or to the log if there is no bar, and to TensorBoard.

        ``curves`` are more scalars for TensorBoard, {prefix: {name: value}}, among them those of ``batch_ckas`` as "cka".
        """
        self.check(step)
        means = dict(zip(self.names, (self.sums / self.batches).tolist(), strict=True))
        now = time.perf_counter()
        rate, seconds = self.examples / (now - self.window_start), now - self.window_start
        self.window_start = now
        progress = f"loss {means['total']:.4g}, {rate:.1f} examples/s"
        bar.set_postfix_str(progress)
        if bar.disable:
            updates = self.batches / self.run.settings.gradient_accumulation_steps
            left = duration((self.run.steps - step) * seconds / updates)
            logger.info("step %d of %d: %s, %s left", step, self.run.steps, progress, left)
        self.tracker.scalars("train", means, step)
        self.tracker.scalars("train", {"learning_rate": self.learning_rate, "examples_per_second": rate}, step)
        for prefix, values in curves.items():
            self.tracker.scalars(prefix, values, step)
        if step == 1:
            self._write_shares(means)
            if curves["cka"]:
                logger.info("%s", describe_ckas(curves["cka"], self.run.objective.debiased))
        self.sums.zero_()
        self.batches = self.examples = 0

    def state(self):
        """(tensors, plain values) of the sums since the last logging step, for a checkpoint."""
        elapsed = time.perf_counter() - self.window_start
        return {"sums": self.sums}, {"batches": self.batches, "examples": self.examples, "elapsed": elapsed}

    def load_state(self, tensors, values):
        """Restore what :meth:`state` returned."""
        self.sums.copy_(tensors["sums"])
        self.batches, self.examples = values["batches"], values["examples"]
        self.window_start -= values["elapsed"]

    def _write_shares(self, means):
        weighted = {name: weight * means[name] for name, weight in self.run.objective.weights.items()}
        whole = sum(abs(value) for value in weighted.values()) or 1.0
        parts = (f"{name} {value:.4g} ({abs(value) / whole:.1%})" for name, value in weighted.items())
        logger.info("weighted losses at the first step: %s", ", ".join(parts))
        for name, value in weighted.items():
            if len(weighted) > 1 and abs(value) > DOMINATES * (whole - abs(value)):
                logger.warning("%s is over %d times all other losses together; lower %s", name, DOMINATES, LOWERED_BY[name])
