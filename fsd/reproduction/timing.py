"""How long the cells to come take, by the rate of those that are done."""

import math
from statistics import mean

from fsd.glue.files import find_split
from fsd.glue.tasks import find_task
from fsd.reproduction.plan import FINAL
from fsd.system.errors import InputError

HELD_OUT_SHARE = 0.2  # what scripts/hold_out.py holds out by default


class Rates:
    """Seconds a step of students, measured in the results rows of a plan that has looked at them.

    Args:
        plan: :class:`fsd.reproduction.plan.Plan`.
        seconds_per_step: the rate to take where nothing is measured, or None.
    """

    def __init__(self, plan, seconds_per_step=None):
        self.plan, self.default, self.examples = plan, seconds_per_step, {}
        self.measured = {}
        for (_, task, method, _), rows in plan.rows.items():
            for row in rows:
                if row["role"] == "student" and (rate := rate_of(row)):
                    for key in ((task, method), (task, None), (None, method), (None, None)):
                        self.measured.setdefault(key, []).append(rate)

    def seconds(self, entry):
        """Expected seconds of an entry of ``Progress.to_come``, or None if no rate is known."""
        stage, task, method, setting = entry
        rate = next((mean(self.measured[key]) for key in ((task, method), (task, None), (None, method), (None, None))
                     if key in self.measured), self.default)
        if rate is None:
            return None
        epochs, max_steps, batch, most = setting or self._typical(task, method)
        if max_steps > 0:
            return rate * max_steps
        held_out = 0 if stage == FINAL or self.plan.workplace.select_on_dev else HELD_OUT_SHARE
        examples = self._examples(task) * (1 - held_out)
        examples = min(examples, most) if most > 0 else examples
        return rate * math.ceil(round(epochs * math.ceil(examples / batch), 6))  # as the run counts its steps

    def seconds_left(self, progress):
        """Expected seconds of all students to come, one after the other; 0 if no rate is known."""
        return sum(self.seconds(entry) or 0 for entry in progress.to_come)

    def _typical(self, task, method):
        """The steps setting of a student whose settings are not chosen yet, with the mean of the epochs that are tried."""
        epochs = [
            value for stage in self.plan.stages if stage.method == method or "num_train_epochs" in stage.keep
            for flag, value in stage.entries if flag == "num_train_epochs" and isinstance(value, int | float)
        ]
        values = self.plan.example(method) | ({"num_train_epochs": mean(epochs)} if epochs else {})
        return self.plan.workplace.student("final", FINAL, task, method, 0, values, {}).steps_setting

    def _examples(self, task):
        """Training examples of a task, by the lines of its file."""
        if task not in self.examples:
            known = find_task(task)
            try:
                with open(find_split(known, self.plan.workplace.data_dir, "train"), "rb") as file:
                    self.examples[task] = sum(1 for _ in file)
            except (OSError, InputError):
                self.examples[task] = known.rows["train"]
        return self.examples[task]


def rate_of(row):
    """The measured rate of a results row, 0 where it does not tell one."""
    try:
        rate = float(row["seconds"]) / int(row["steps"])
    except (OverflowError, ValueError, ZeroDivisionError):
        return 0
    return rate if math.isfinite(rate) and rate > 0 else 0
