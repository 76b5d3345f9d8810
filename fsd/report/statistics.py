"""Means over seeds and tests between methods. A test that the runs are too few or too alike for gives None, never NaN."""

import numpy as np
from scipy import stats

DRAWS = 100_000  # of the permutation test; fewer sign patterns than that are all taken
ROUNDING = 1e-12  # scores, in fractions or percent, that differ by no more are equal


def summary(values):
    """(mean, standard deviation with n − 1, n) of the values that are not NaN; None for what has too few of them."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if len(values) else None
    return mean, float(values.std(ddof=1)) if len(values) > 1 else None, len(values)


def welch_test(ours, other):
    """One-tailed p of Welch's t-test that ``ours`` has the higher mean; both are (mean, standard deviation, n)."""
    (mean, sd, n), (other_mean, other_sd, other_n) = ours, other
    if n < 2 or other_n < 2 or max(sd, other_sd) <= ROUNDING:
        return None
    result = stats.ttest_ind_from_stats(mean, sd, n, other_mean, other_sd, other_n, equal_var=False, alternative="greater")
    return float(result.pvalue)


def paired_test(differences):
    """One-tailed p of the t-test that the mean of paired ``differences`` is above 0."""
    _, sd, n = summary(differences)
    if n < 2 or sd <= ROUNDING:
        return None
    return float(stats.ttest_1samp(differences, 0, alternative="greater").pvalue)


def holm(p_values):
    """Key → p corrected for all of ``p_values`` by Holm's method; None stays, and is not counted."""
    known = sorted((p, key) for key, p in p_values.items() if p is not None)
    corrected, highest = dict.fromkeys(p_values), 0.0
    for at, (p, key) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - at) * p))
        corrected[key] = highest
    return corrected


def sign_flip_test(groups, draws=DRAWS):
    """One-tailed p of the permutation test that paired differences of several tasks are above 0.

    Each task's differences are divided by their root mean square, which flipping signs does not change; so the scale of a
    task's scores does not matter. The statistic is the sum of all. Under the null hypothesis each difference's sign is as likely
    + as −.

    Args:
        groups: the differences, one array [n] a task.
        draws: number of random sign patterns; all 2^n are taken where they are no more than that.

    Returns:
        (p, whether all patterns were taken, number of tasks, number of differences). Tasks whose differences are all 0 say
        nothing and are not counted. With fewer than two differences left, p is None.
    """
    scales = [np.sqrt(np.mean(np.square(group))) if len(group) else 0.0 for group in groups]
    used = [np.asarray(group) / scale for group, scale in zip(groups, scales, strict=True) if scale > ROUNDING]
    scaled = np.concatenate(used or [np.empty(0)])
    if len(scaled) < 2:  # one sign alone has p 0.5 at best
        return None, True, len(used), len(scaled)
    test = stats.permutation_test(
        (scaled,), lambda x, axis: np.round(x.sum(axis=axis), 9), permutation_type="samples", alternative="greater",
        n_resamples=draws, vectorized=True, rng=np.random.default_rng(0),
    )  # rounded, so that sums that are equal but for rounding count as equal
    return float(test.pvalue), 2 ** len(scaled) <= draws, len(used), len(scaled)
