"""The streaming k-means against brute force in float64 and against scikit-learn."""

import re
import statistics

import pytest
import torch
from sklearn.cluster import KMeans

from fsd.memory import feature_source
from fsd.memory.clustering_plan import Plan
from fsd.memory.clustering_state import State, load_state, save_state
from fsd.memory.feature_source import FeatureSource
from fsd.memory.kmeans import refill_moves
from fsd.memory.streaming_kmeans import cluster, lloyd_pass
from fsd.system.errors import InputError


def batches(features, size=32):
    """The callable that ``cluster`` takes, and a list that grows by one a pass over it."""
    passes = []

    def iterate():
        passes.append(1)
        for start in range(0, len(features), size):
            yield start, features[start : start + size]

    return iterate, passes


def run(features, num_centroids, passes=3, seed=0, size=32, **plan):
    source, _ = batches(features, size)
    made = Plan(*features.shape, num_centroids, passes, **plan)
    return cluster(source, made, seed=seed, device="cpu", tolerance=0.0)


def brute_force(features, clustering):
    """Means, counts and inertia of the clustering's assignment, in float64."""
    features = features.double()
    means = torch.stack([features[clustering.assignment == k].mean(dim=0) for k in range(len(clustering.counts))])
    counts = torch.bincount(clustering.assignment, minlength=len(clustering.counts))
    return means, counts, (features - means[clustering.assignment]).square().sum().item()


def blobs(seed, num_examples=400, num_features=1500, num_blobs=12, noise=0.6, offset=0.0):
    """Unbalanced clusters in noise: the k-th is twice as likely as the k+1-th is at its half."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(num_blobs, num_features, generator=generator)
    likelihood = 1.0 / torch.arange(1, num_blobs + 1)
    chosen = torch.multinomial(likelihood, num_examples, replacement=True, generator=generator)
    return centers[chosen] + noise * torch.randn(num_examples, num_features, generator=generator) + offset


@pytest.mark.parametrize("features", [
    blobs(0), blobs(1, noise=3.0), blobs(2, offset=1000.0), blobs(3, num_features=40, num_blobs=30),
    torch.randn(300, 1200, generator=torch.Generator().manual_seed(4)),
], ids=["blobs", "noisy", "large offset", "narrow", "no clusters"])
def test_quality_and_exactness(features):
    clustering = run(features, 12)
    means, counts, inertia = brute_force(features, clustering)
    assert torch.equal(clustering.counts, counts) and counts.min() >= 1
    # Features of offset 1000 are themselves rounded to 6e-5; the rest is float32 rounding of the centroids.
    torch.testing.assert_close(clustering.centroids.double(), means, rtol=1e-6, atol=2e-4)
    assert clustering.inertia == pytest.approx(inertia, rel=1e-4)
    centered = (features - features.mean(dim=0)).numpy()
    converged = [KMeans(12, n_init=1, random_state=seed).fit(centered).inertia_ for seed in range(5)]
    assert clustering.inertia <= 1.02 * statistics.median(converged)


def test_the_stored_centroids_come_from_the_nearest_assignment():
    features = blobs(5, num_features=30, noise=2.0)
    before, after = run(features, 8, passes=3), run(features, 8, passes=4)
    nearest = torch.cdist(features.double(), before.centroids.double()).argmin(dim=1)
    assert torch.equal(nearest, after.assignment)
    assert after.inertia <= before.inertia


def test_cached_and_streamed_features_give_the_same_bits():
    features = blobs(6)
    kept, streamed = run(features, 10, cache_bytes=1e9), run(features, 10, cache_bytes=0)
    assert torch.equal(kept.centroids, streamed.centroids) and kept.inertia == streamed.inertia


def test_cached_features_are_computed_once_and_others_once_a_pass():
    features = blobs(7)
    for cache_bytes, expected in ((1e9, 1), (0, 3)):
        source, passes = batches(features)
        plan = Plan(*features.shape, 10, 3, cache_bytes=cache_bytes)
        cluster(source, plan, seed=0, device="cpu", tolerance=0.0)
        assert len(passes) == expected


def test_the_seed_decides():
    features = blobs(8, noise=3.0)
    assert torch.equal(run(features, 10, seed=1).centroids, run(features, 10, seed=1).centroids)
    assert not torch.equal(run(features, 10, seed=1).centroids, run(features, 10, seed=2).centroids)


def test_no_cluster_is_empty_among_duplicates():
    features = torch.randn(3, 20, generator=torch.Generator().manual_seed(9)).repeat(10, 1)
    for passes in (2, 3, 5):
        clustering = run(features, 8, passes=passes, size=7)
        assert clustering.counts.min() >= 1 and clustering.counts.sum() == 30
        assert torch.isfinite(clustering.centroids).all() and clustering.inertia >= 0


@pytest.mark.parametrize("size", [1, 3, 60], ids=["batches of one", "smaller than K", "larger than K"])
def test_clusters_emptied_by_a_pass_are_refilled_from_the_farthest(size):
    """Centroids 2, 3 and 4 lie where no example is nearest to them, so the pass empties all three."""
    features = blobs(10, num_examples=60, num_features=9, num_blobs=2)
    centroids = torch.cat([features[:2], torch.full((3, 9), 1e3)])
    distances, nearest = torch.cdist(features.double(), centroids.double()).min(dim=1)
    source, _ = batches(features, size)
    plan = Plan(60, 9, 5)
    before = State(torch.zeros(9), nearest, inertia=0.0, centroids=centroids)
    after = lloyd_pass(FeatureSource(source, plan, torch.device("cpu")), plan, before, number=3)
    farthest = distances.argsort(descending=True)[:3]
    assert after.refilled == 3
    assert torch.equal(after.assignment[farthest], torch.tensor([2, 3, 4])) and after.counts[2:].tolist() == [1, 1, 1]
    stayed = torch.ones(60, dtype=torch.bool).index_fill(0, farthest, False)
    assert torch.equal(after.assignment[stayed], nearest[stayed])
    means, counts, inertia = brute_force(features, after)
    assert torch.equal(counts, after.counts)
    torch.testing.assert_close(after.centroids.double(), means, rtol=1e-6, atol=1e-6)  # float32 rounding of the centroids
    assert after.inertia == pytest.approx(inertia, rel=1e-6)  # squares are rounded to float32 before they are summed


def test_a_state_whose_values_have_changed_is_refused(tmp_path):
    state = State(torch.zeros(9), torch.arange(5), inertia=1.0)
    save_state(tmp_path / "state", state, [])
    loaded, history = load_state(tmp_path / "state", "cpu")
    assert torch.equal(loaded.offset, state.offset) and torch.equal(loaded.assignment, state.assignment) and history == []
    content = bytearray((tmp_path / "state").read_bytes())
    content[-1] ^= 0x40
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(InputError, match="have changed since it was written; remove it to start again"):
        load_state(tmp_path / "state", "cpu")


def test_one_example_over_and_over():
    clustering = run(torch.full((9, 4), 3.7), 9, passes=4)
    assert clustering.counts.tolist() == [1] * 9 and clustering.inertia == 0
    assert torch.equal(clustering.centroids, torch.full((9, 4), 3.7))


def test_refill_takes_the_farthest_that_leaves_its_cluster_filled():
    counts = torch.tensor([1, 3, 0, 2, 0])
    assert refill_moves(counts, torch.tensor([0, 3, 3, 1, 1])) == [(1, 3, 2), (3, 1, 4)]


def test_as_many_centroids_as_examples():
    features = torch.randn(12, 6, generator=torch.Generator().manual_seed(11))
    clustering = run(features, 12)
    assert clustering.counts.tolist() == [1] * 12
    assert clustering.inertia == pytest.approx(0, abs=1e-4)  # rounding of squared norms of about 6


def test_batches_from_within_an_autocast_lose_no_digits():
    features = blobs(14, noise=6.0)  # so close that products rounded to bfloat16 choose other clusters

    def iterate():
        with torch.autocast("cpu", torch.bfloat16):
            yield from batches(features)[0]()

    clustering = cluster(iterate, Plan(*features.shape, 10), seed=0, device="cpu", tolerance=0.0)
    assert torch.equal(clustering.centroids, run(features, 10).centroids)


@pytest.mark.parametrize("given", [
    [(0, torch.ones(4, 3))], [(0, torch.ones(4, 3)), (5, torch.ones(4, 3))], [(0, torch.ones(9, 3))],
    [(0, torch.ones(8, 2))], [(0, torch.ones(8, 3, 1))],
], ids=["too few", "out of order", "too many", "of another width", "not flat"])
def test_batches_that_do_not_fit_the_plan(given):
    with pytest.raises(ValueError, match="features"):
        cluster(lambda: iter(given), Plan(8, 3, 2), seed=0, device="cpu")


def test_every_pass_is_reported():
    features, reports = blobs(15), []
    source, _ = batches(features)
    clustering = cluster(source, Plan(*features.shape, 10, 3), seed=0, device="cpu", log=reports.append)
    assert reports == clustering.history and [report.number for report in reports] == [1, 2, 3]
    assert reports[-1].inertia == clustering.inertia <= reports[1].inertia
    # The projection keeps squared distances in expectation; over 400 examples their sum to a few hundredths.
    assert reports[0].inertia == pytest.approx(reports[1].inertia, rel=0.1)
    assert "pass 3/3: inertia" in reports[-1].describe()


def test_early_stop():
    features = blobs(12)
    source, _ = batches(features)
    clustering = cluster(source, Plan(*features.shape, 12, 50), seed=0, device="cpu", tolerance=1e-4)
    assert clustering.passes < 10


@pytest.mark.parametrize("arguments", [(10, 5, 1), (10, 5, 11), (10, 5, 2, 1)])
def test_refused(arguments):
    with pytest.raises(ValueError, match="10 examples cannot be clustered"):
        Plan(*arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite(value):
    features = blobs(13)
    features[200, 3] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        run(features, 5)


def test_features_whose_squares_are_infinite():
    with pytest.raises(InputError, match="too large for float32"):
        run(1e20 * blobs(13), 5)


def test_a_teacher_that_is_broken_from_the_start_is_told_after_one_batch():
    given = []

    def iterate():
        for start in range(0, 40, 8):
            given.append(start)
            yield start, torch.full((8, 5), float("nan"))

    with pytest.raises(InputError, match="NaN or infinity"):
        cluster(iterate, Plan(40, 5, 2), seed=0, device="cpu")
    assert given == [0]


def test_the_plan_counts_what_it_keeps():
    plan = Plan(392702, 98304, 300)
    assert not plan.is_cached and plan.sizes["projections"] == 392702 * 1024 * 4  # 1.6 GB for MNLI
    assert "feature cache 0.0 MB" in plan.describe()
    assert Plan(2490, 98304, 100).is_cached


def test_the_time_it_will_take_is_told_once_in_the_first_pass(monkeypatch, caplog):
    monkeypatch.setattr(feature_source, "ESTIMATE_AFTER", 0)
    caplog.set_level("INFO", "fsd.memory")
    run(blobs(0), 12)
    (line,) = [record.message for record in caplog.records]
    assert re.search(r"examples/s a pass takes about \d+ s", line)


@pytest.mark.parametrize(("cache_bytes", "told"), [(0, "a pass takes about 2.8 h, all 3 about 8.3 h"),
                                                   (1e15, "a pass takes about 2.8 h, all 3 about 2.8 h")])
def test_the_time_counts_the_teacher_once_where_features_are_kept(cache_bytes, told):
    assert told in Plan(100_000, 98_304, 100, 3, cache_bytes).describe_time(10)
