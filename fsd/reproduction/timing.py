"""How long the cells to come take, by the rate of those that are done."""

import math
from statistics import mean

from fsd.glue.files import find_split
from fsd.glue.tasks import find_task
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
                if row["role"] == "student" and row["seconds"] and row["steps"] not in ("", "0"):
                    rate = float(row["seconds"]) / int(row["steps"])
                    for key in ((task, method), (task, None), (None, method), (None, None)):
                        self.measured.setdefault(key, []).append(rate)

    def seconds(self, entry):
        """Expected seconds of an entry of ``Progress.to_come``, or None if no rate is known."""
        stage, task, method, setting = entry
        rate = next((mean(self.measured[key]) for key in ((task, method), (task, None), (None, method), (None, None))
                     if key in self.measured), self.default)
        if rate is None:
            return None
        epochs, max_steps, batch = setting or self._typical(task, method)
        if max_steps > 0:
            return rate * max_steps
        examples = self._examples(task) * (1 if stage == "final runs" else 1 - HELD_OUT_SHARE)
        return rate * math.ceil(epochs * math.ceil(examples / batch))

    def seconds_left(self, progress):
        """Expected seconds of all students to come, one after the other; 0 if no rate is known."""
        return sum(self.seconds(entry) or 0 for entry in progress.to_come)

    def _typical(self, task, method):
        cell = self.plan.workplace.student("final", "final runs", task, method, 0, self._placeholders(method), {})
        return cell.steps_setting

    def _placeholders(self, method):
        """Values for what the search has not chosen: only their presence matters for the time, but for the epochs' mean."""
        values = {"PKD": {"beta": 1}, "MiniLM": {"beta": 1}, "RKD": {"rkd_distance": 1}}.get(method, {})
        epochs = [
            epochs for stage in self.plan.workplace.experiment.stages if stage.method in (method, "KD")
            for own in stage.candidates("") if isinstance(epochs := own.get("num_train_epochs"), int | float)
        ]
        return values | ({"num_train_epochs": mean(epochs)} if epochs else {})

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
