"""Means over seeds and tests between methods, against scipy and numbers made by hand."""

import json
import math

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from fsd.report.comparison import welch_of_published
from fsd.report.statistics import holm, paired_test, sign_flip_test, summary, welch_test

PUBLISHED = json.loads((ROOT / "results/published.json").read_text())
SCORES = PUBLISHED["tables_2_and_3"]["scores"]


def test_summary_by_hand():
    assert summary([1.0, 2.0, math.nan, 6.0]) == (3.0, pytest.approx(math.sqrt(7)), 3)  # (4 + 1 + 9) / 2
    assert summary([2.0]) == (2.0, None, 1)
    assert summary([math.nan]) == (None, None, 0)


def test_tests_between_methods_agree_with_scipy():
    rng = np.random.default_rng(0)
    ours, other = rng.normal(0.7, 0.1, 6), rng.normal(0.65, 0.2, 4)
    welch = stats.ttest_ind(ours, other, equal_var=False, alternative="greater").pvalue
    assert welch_test(summary(ours), summary(other)) == pytest.approx(welch)
    paired = stats.ttest_rel(ours[:4], other, alternative="greater").pvalue
    assert paired_test(ours[:4] - other) == pytest.approx(paired)


def test_too_few_or_equal_runs_give_no_p():
    assert welch_test((0.7, None, 1), (0.6, 0.1, 6)) is None and welch_test((0.7, 0.1, 6), (0.6, None, 1)) is None
    assert welch_test((0.7, 0.0, 6), (0.6, 0.0, 6)) is None
    assert 0 < welch_test((0.7, 0.0, 6), (0.6, 0.1, 6)) < 0.05
    assert paired_test([0.1]) is None
    assert paired_test(np.full(3, 0.7) - np.full(3, 0.6)) is None  # equal differences, and so no spread
    assert paired_test([0.0, 0.0]) is None
    assert sign_flip_test([]) == sign_flip_test([[0.0, 0.0], []]) == (None, True, 0, 0)


def test_holm_by_hand():
    corrected = holm({"a": 0.01, "b": 0.04, "c": None, "d": 0.03, "e": 0.5})
    # sorted: 0.01·4, 0.03·3, 0.04·2 (raised to 0.09, as none may fall below an earlier one), 0.5·1
    assert corrected == {"a": pytest.approx(0.04), "b": pytest.approx(0.09), "c": None, "d": pytest.approx(0.09), "e": 0.5}
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_permutation_test_is_exact_where_small():
    assert sign_flip_test([[0.2, 0.2, 0.2]]) == (1 / 8, True, 1, 3)  # of 8 sign patterns only the observed one reaches the sum
    assert sign_flip_test([[0.3], [5.0]]) == (1 / 4, True, 2, 2)  # a task of one seed counts by its sign
    assert sign_flip_test([[-0.3], [-5.0]]) == (1.0, True, 2, 2)
    groups = [np.array([0.3, -0.1, 0.2]), np.array([4.0, 1.0])]
    scaled = np.concatenate([group / np.sqrt(np.mean(group**2)) for group in groups])
    known = stats.permutation_test(
        (scaled, np.zeros(5)), lambda x, y, axis: (x - y).sum(axis=axis), permutation_type="samples", alternative="greater",
        vectorized=True,
    )
    assert sign_flip_test(groups)[0] == pytest.approx(known.pvalue)
    assert sign_flip_test([groups[0], 100 * groups[1]])[0] == sign_flip_test(groups)[0]  # no task weighs more for its scale


def test_tasks_without_a_difference_do_not_count_in_the_permutation_test():
    assert sign_flip_test([[0.0, 0.0], [0.2, 0.1]]) == (*sign_flip_test([[0.2, 0.1]])[:2], 1, 2)


def test_permutation_test_draws_patterns_where_there_are_many():
    differences = np.random.default_rng(1).normal(0.2, 1, (5, 3))
    exact, all_taken, *_ = sign_flip_test(differences)
    drawn, all_drawn, *_ = sign_flip_test(differences, draws=20_000)
    assert all_taken and not all_drawn
    assert drawn == pytest.approx(exact, abs=0.01) and drawn == sign_flip_test(differences, draws=20_000)[0]


def test_what_notes_say_of_the_published_p_values():
    """The notes below Tables 2 and 3: each printed p against Welch's test from the printed means and deviations."""
    found = {column: welch_of_published(scores) for column, scores in SCORES.items()}
    assert found["RTE acc"][0] == "VKD" and found["RTE acc"][1] == pytest.approx(0.07, abs=0.005)
    rte = SCORES["RTE acc"]
    assert welch_test((*rte["FSD"], 6), (*rte["RKD"], 6)) == pytest.approx(0.015, abs=0.0005)
    assert found["QQP acc"] == ("RKD", pytest.approx(0.73, abs=0.005))
    differences = {column: abs(p - SCORES[column]["p"]) for column, (_, p) in found.items()}
    small = ("WNLI", "RTE", "STS-B", "CoLA", "MRPC")
    for named, limit in (("RTE acc", 0.07), ("QQP acc", 0.1)):
        table = {column for column in SCORES if (column.split()[0] in small) == (named.split()[0] in small)}
        assert all(differences[column] <= limit for column in table - {named}), differences
        assert differences[named] > max(differences[column] for column in table - {named})


def test_what_notes_say_of_the_other_published_numbers():
    changes = PUBLISHED["table_4_percent_change_from_FSD"]
    for method in ("FSD_I", "FSD_L", "FSD_G", "FSD_IL"):
        mean = np.mean([number for numbers in changes[method].values() if isinstance(numbers, list) for number in numbers])
        printed = -0.85 if method == "FSD_I" else changes[method]["average"]
        assert mean == pytest.approx(printed, abs=0.01)
    assert changes["FSD_I"]["average"] == -0.78

    ranks = PUBLISHED["table_7_mean_rank_of_relation_differences"]
    tasks, methods = ranks["columns"][:-1], ("VKD", "PKD", "RKD", "FSD")
    sums = {task: sum(ranks[method][at] for method in methods) for at, task in enumerate(tasks)}
    assert sums.pop("MRPC") == 10.5 and set(sums.values()) == {10.0}
    averages = {method: np.mean(ranks[method][:-1]) for method in methods}
    assert (averages["PKD"], averages["RKD"]) == (pytest.approx(2.67, abs=0.005), pytest.approx(2.47, abs=0.005))
    corrected = {"PKD": 2.25, "RKD": 2.25}  # MRPC's
    for method in methods:
        printed = ranks[method][tasks.index("MRPC")]
        average = averages[method] + (corrected.get(method, printed) - printed) / len(tasks)
        assert average == pytest.approx(ranks[method][-1], abs=0.006)


def test_one_difference_alone_has_no_p():
    assert sign_flip_test([[0.02]]) == (None, True, 1, 1)
