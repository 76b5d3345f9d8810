"""The official GLUE metrics for predictions on a labelled split."""

import numpy as np

from fsd.system.errors import InputError


def main_metric(task, split="dev"):
    """The name of the task's main metric in the result of :func:`compute_metrics`."""
    return _prefix(task, split) + task.main_metric.removeprefix("mnli/")


def compute_metrics(task, predictions, labels, split="dev"):
    """Metric name → value, each in [-1, 1].

    ``predictions`` and ``labels``: arrays [N] of class ids, or of STS-B scores. CoLA: mcc. MRPC and QQP: acc, f1,
    acc_and_f1. STS-B: pearson, spearmanr, corr (their mean). Others: acc; MNLI calls it mnli/acc, or mnli-mm/acc for
    dev-mm. If predictions or labels are constant, correlations are 0. InputError for scores that are not finite.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(f"predictions {predictions.shape} and labels {labels.shape} must be two equal lists")
    if task.name == "CoLA":
        return {"mcc": _matthews(predictions, labels)}
    if task.regression:
        return _correlations(predictions.astype(np.float64), labels.astype(np.float64))
    accuracy = float((predictions == labels).mean())
    if task.name in ("MRPC", "QQP"):
        from sklearn.metrics import f1_score

        f1 = float(f1_score(labels, predictions, zero_division=0))
        return {"acc": accuracy, "f1": f1, "acc_and_f1": (accuracy + f1) / 2}
    return {main_metric(task, split): accuracy}


def majority_metrics(task, labels, split="dev"):
    """The metrics of a constant prediction: the most common class, or the mean of STS-B's scores."""
    labels = np.asarray(labels)
    answer = labels.mean() if task.regression else np.bincount(labels).argmax()
    return compute_metrics(task, np.full(labels.shape, answer), labels, split)


def _prefix(task, split):
    if task.name != "MNLI":
        return ""
    return "mnli-mm/" if split == "dev-mm" else "mnli/"


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
