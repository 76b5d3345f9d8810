"""FSD against the best baseline: per metric as the paper does it, per task in pairs, and over all tasks at once."""

from dataclasses import dataclass, field

import pandas

from fsd.report.names import BASELINES, LABELS
from fsd.report.statistics import holm, paired_test, summary, welch_test

OURS = "FSD_ILG"
PAPER_RUNS = 6  # of each printed mean


@dataclass
class TaskComparison:
    """FSD minus the best baseline of one task, seed by seed; methods start equal and see equal batches at a seed.

    The score is the mean of the task's metrics, as in GLUE's average. ``p`` and ``corrected`` are None where there are too
    few pairs.
    """

    baseline: str
    differences: list = field(default_factory=list)
    p: float | None = None
    corrected: float | None = None


def best_baseline(scores):
    """The baseline of the highest mean in ``scores``, method → its values; of equal ones the first; None without any."""
    means = {method: summary(scores[method])[0] for method in BASELINES if len(scores.get(method, ()))}
    means = {method: mean for method, mean in means.items() if mean is not None}
    return max(means, key=lambda method: round(means[method], 9), default=None)  # rounding must not decide


def welch_p_values(rows, metrics):
    """(task, metric) → one-tailed p of Welch's t-test of FSD against the metric's best baseline, unpaired as in the paper."""
    p_values = {}
    for task, metric in metrics:
        scores = _by_method(rows[rows["task"] == task], metric)
        baseline = best_baseline(scores)
        if baseline and len(scores.get(OURS, ())):
            p_values[task, metric] = welch_test(summary(scores[OURS]), summary(scores[baseline]))
    return p_values


def welch_of_published(scores):
    """One-tailed p of Welch's t-test from a metric's printed means and deviations, method → [mean, sd]: (baseline, p)."""
    baseline = max((LABELS[method] for method in BASELINES), key=lambda name: scores[name][0])
    return baseline, welch_test((*scores["FSD"], PAPER_RUNS), (*scores[baseline], PAPER_RUNS))


def compare_tasks(rows, metrics):
    """Task → :class:`TaskComparison` over the seeds that FSD and the best baseline have in common, for tasks with both.

    ``rows`` are students' rows at one batch size a task, ``metrics`` the (task, metric) whose mean is a task's score.
    """
    found = {}
    for task in dict.fromkeys(task for task, _ in metrics):
        of_task = rows[rows["task"] == task]
        score = of_task[[metric for name, metric in metrics if name == task]].mean(axis=1, skipna=False)
        scores = _by_method(of_task.assign(score=score), "score")
        baseline = best_baseline(scores)
        if baseline and len(scores.get(OURS, ())):
            pairs = common_seeds(of_task.assign(score=score), "score", OURS, baseline)
            differences = (pairs[OURS] - pairs[baseline]).tolist()
            found[task] = TaskComparison(baseline, differences, paired_test(differences) if differences else None)
    for task, corrected in holm({task: comparison.p for task, comparison in found.items()}).items():
        found[task].corrected = corrected
    return found


def common_seeds(rows, column, *methods):
    """A frame of a column's means, a column a method and a row for each seed that all of these methods have."""
    scores = {method: rows[rows["method"] == method].groupby("seed")[column].mean() for method in methods}
    return pandas.DataFrame(scores).dropna()


def _by_method(rows, column):
    """Method → its values of a column that are not NaN, a series with the seeds as index."""
    return {method: of_method.dropna(subset=[column]).set_index("seed")[column] for method, of_method in rows.groupby("method")}
