"""GLUE's metrics against values worked by hand and against scikit-learn and scipy; the edges where those warn."""

import warnings

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from fsd.glue.metrics import compute_metrics, main_metric, majority_metrics
from fsd.glue.tasks import METRIC_NAMES, TASKS, find_task
from fsd.system.errors import InputError

# 3 true positives, 1 false negative, 2 false positives, 2 true negatives
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0])
PREDICTIONS = np.array([1, 1, 1, 0, 1, 1, 0, 0])


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_by_hand():
    assert compute_metrics(find_task("SST-2"), PREDICTIONS, LABELS) == {"acc": 5 / 8}
    mrpc = compute_metrics(find_task("MRPC"), PREDICTIONS, LABELS)
    assert mrpc == pytest.approx({"acc": 5 / 8, "f1": 6 / 9, "acc_and_f1": (5 / 8 + 6 / 9) / 2})
    cola = compute_metrics(find_task("CoLA"), PREDICTIONS, LABELS)
    assert cola == pytest.approx({"mcc": (3 * 2 - 2 * 1) / np.sqrt(5 * 4 * 4 * 3)})
    stsb = compute_metrics(find_task("STS-B"), np.array([1.0, 2.0, 9.0]), np.array([0.0, 1.0, 2.0]))
    pearson = 8 / np.sqrt(38 * 2)
    assert stsb == pytest.approx({"pearson": pearson, "spearmanr": 1.0, "corr": (pearson + 1) / 2})


def test_against_scikit_learn_and_scipy():
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 2, 200), random.integers(0, 2, 200)
    qqp = compute_metrics(find_task("QQP"), predictions, labels)
    assert qqp["f1"] == f1_score(labels, predictions)
    assert compute_metrics(find_task("CoLA"), predictions, labels)["mcc"] == matthews_corrcoef(labels, predictions)
    scores = random.uniform(0, 5, 200).round(1)
    guesses = (scores + random.normal(size=200)).astype(np.float32)
    stsb = compute_metrics(find_task("STS-B"), guesses, scores.astype(np.float32))
    # float32 scores differ from the float64 ones by 1e-7 of themselves
    assert stsb["pearson"] == pytest.approx(pearsonr(guesses, scores)[0], rel=1e-6)
    assert stsb["spearmanr"] == pytest.approx(spearmanr(guesses, scores)[0], rel=1e-6)


def test_mnli_is_named_after_its_split():
    task = find_task("MNLI")
    assert compute_metrics(task, np.array([0, 1]), np.array([0, 2]), "dev") == {"mnli/acc": 0.5}
    assert compute_metrics(task, np.array([0, 2]), np.array([0, 2]), "dev-mm") == {"mnli-mm/acc": 1.0}
    assert main_metric(task) == "mnli/acc"


@pytest.mark.parametrize("name", [task.name for task in TASKS])
def test_the_main_metric_is_among_the_metrics(name):
    task = find_task(name)
    metrics = compute_metrics(task, np.array([0, 1, 1]), np.array([0, 1, 0]))
    assert main_metric(task) in metrics
    assert all(type(value) is float for value in metrics.values())


@pytest.mark.parametrize("predictions", [[0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("labels", [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_constant_answers_are_no_correlation(predictions, labels):
    assert compute_metrics(find_task("CoLA"), predictions, labels) == {"mcc": 0.0}
    assert set(compute_metrics(find_task("STS-B"), predictions, labels).values()) == {0.0}
    assert np.isfinite(list(compute_metrics(find_task("MRPC"), predictions, labels).values())).all()


def test_scores_constant_to_rounding_are_no_correlation():
    scores = 3 + np.array([0, 1, 0, 1]) * 4e-16
    assert np.ptp(scores) > 0
    assert set(compute_metrics(find_task("STS-B"), scores, [1, 2, 3, 4]).values()) == {0.0}


def test_the_list_of_names_is_what_the_tasks_give():
    given = [compute_metrics(task, [0, 1], [0, 1], split) for task in TASKS for split in task.dev_splits]
    assert {name for metrics in given for name in metrics} == set(METRIC_NAMES)


def test_one_example():
    assert compute_metrics(find_task("STS-B"), [2.5], [3.0])["corr"] == 0.0
    assert compute_metrics(find_task("RTE"), [1], [1]) == {"acc": 1.0}


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        compute_metrics(find_task("STS-B"), [1.0, np.nan], [1.0, 2.0])


def test_unlike_lists_are_refused():
    with pytest.raises(ValueError):
        compute_metrics(find_task("RTE"), [1, 0], [[1, 0]])


def test_chance():
    assert majority_metrics(find_task("RTE"), [1, 1, 0]) == {"acc": 2 / 3}
    assert majority_metrics(find_task("MNLI"), [2, 2, 0, 1]) == {"mnli/acc": 0.5}
    assert majority_metrics(find_task("CoLA"), [1, 1, 0]) == {"mcc": 0.0}
    assert majority_metrics(find_task("STS-B"), [0.5, 3.5, 4.0])["corr"] == 0.0
    mrpc = majority_metrics(find_task("MRPC"), [1, 1, 0])
    assert mrpc == pytest.approx({"acc": 2 / 3, "f1": 0.8, "acc_and_f1": (2 / 3 + 0.8) / 2})
