"""GLUE's metrics for predictions on a labelled split."""

import numpy as np

from fsd.system.errors import InputError


def main_metric(task):
    """The name of the task's main metric in the result of :func:`compute_metrics`."""
    return _prefix(task, "dev") + task.metrics[0]


def compute_metrics(task, predictions, labels, split="dev"):
    """Metric name → value, each in [-1, 1], for the task's metrics.

    ``predictions`` and ``labels``: arrays [N] of class ids, or of scores. mcc is Matthews' correlation, f1 that of class 1,
    acc_and_f1 and corr are means of two. MNLI calls acc mnli/acc, or mnli-mm/acc for dev-mm. If predictions or labels are
    constant, correlations are 0. InputError for scores that are not finite.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(f"predictions {predictions.shape} and labels {labels.shape} must be two equal lists")
    if task.regression:
        values = _correlations(predictions.astype(np.float64), labels.astype(np.float64))
    else:
        values = {"mcc": _matthews, "acc": _accuracy, "f1": _f1, "acc_and_f1": _accuracy_and_f1}
        values = {name: compute(predictions, labels) for name, compute in values.items() if name in task.metrics}
    return {_prefix(task, split) + name: value for name, value in values.items() if name in task.metrics}


def check_score(value, where):
    """Raise an ``InputError``, starting with ``where``, for a number outside [-1, 1], to float64 rounding; NaN passes."""
    if abs(value) > 1 + 1e-12:
        raise InputError(f"{where} is {value:g}; a score is a fraction, as 0.425 for 42.5 %; correct it, or remove the row")


def majority_metrics(task, labels):
    """The metrics of a constant prediction: the most common class, or the mean of the scores."""
    labels = np.asarray(labels)
    answer = labels.mean() if task.regression else np.bincount(labels).argmax()
    return compute_metrics(task, np.full(labels.shape, answer), labels)


def _prefix(task, split):
    if task.name != "MNLI":
        return ""
    return "mnli-mm/" if split == "dev-mm" else "mnli/"


def _accuracy(predictions, labels):
    return float((predictions == labels).mean())


def _f1(predictions, labels):
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, zero_division=0))


def _accuracy_and_f1(predictions, labels):
    return (_accuracy(predictions, labels) + _f1(predictions, labels)) / 2


def _matthews(predictions, labels):
    from sklearn.metrics import matthews_corrcoef

    if _constant(predictions) or _constant(labels):
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def _correlations(predictions, labels):
    from scipy.stats import pearsonr, spearmanr

    if not np.isfinite(predictions).all():
        raise InputError("the model predicts scores that are not finite; it has diverged, lower its learning rate")
    if _constant(predictions) or _constant(labels):
        return {"pearson": 0.0, "spearmanr": 0.0, "corr": 0.0}
    pearson, spearman = float(pearsonr(predictions, labels)[0]), float(spearmanr(predictions, labels)[0])
    return {"pearson": pearson, "spearmanr": spearman, "corr": (pearson + spearman) / 2}


def _constant(values):
    """Whether all ``values`` are equal up to float64 rounding."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())
