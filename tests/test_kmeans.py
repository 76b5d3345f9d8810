"""The streaming k-means against brute force in float64 and against scikit-learn."""

import statistics

import pytest
import torch
from sklearn.cluster import KMeans

from fsd.files import InputError
from fsd.kmeans import Plan, cluster
from fsd.lloyd import refill_moves


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
    return cluster(source, made, seed=seed, device="cpu", tolerance=0.0, progress=False)


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
        cluster(source, plan, seed=0, device="cpu", tolerance=0.0, progress=False)
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


def test_a_cluster_emptied_in_the_last_pass_is_refilled():
    """One far pair and a crowd: whatever the passes do, each of the clusters keeps an example."""
    crowd = 1e-3 * torch.randn(40, 10, generator=torch.Generator().manual_seed(10))
    features = torch.cat([crowd, torch.full((1, 10), 50.0), torch.full((1, 10), 50.0)])
    clustering = run(features, 20, passes=4)
    means, counts, inertia = brute_force(features, clustering)
    assert counts.min() >= 1 and torch.equal(counts, clustering.counts)
    torch.testing.assert_close(clustering.centroids.double(), means, rtol=1e-5, atol=1e-5)  # float32


def test_refill_takes_the_farthest_that_leaves_its_cluster_filled():
    counts = torch.tensor([1, 3, 0, 2, 0])
    assert refill_moves(counts, torch.tensor([0, 3, 3, 1, 1])) == [(1, 3, 2), (3, 1, 4)]


def test_as_many_centroids_as_examples():
    features = torch.randn(12, 6, generator=torch.Generator().manual_seed(11))
    clustering = run(features, 12)
    assert clustering.counts.tolist() == [1] * 12
    assert clustering.inertia == pytest.approx(0, abs=1e-4)  # rounding of squared norms of about 6


def test_early_stop():
    features = blobs(12)
    source, _ = batches(features)
    clustering = cluster(source, Plan(*features.shape, 12, 50), seed=0, device="cpu", tolerance=1e-4, progress=False)
    assert clustering.passes < 10


@pytest.mark.parametrize("arguments, flag", [((10, 5, 1), "--num_centroid 1"), ((10, 5, 11), "--num_centroid 11"),
                                             ((10, 5, 2, 1), "--memory_num_train_epochs 1")])
def test_refused(arguments, flag):
    with pytest.raises(InputError, match=flag):
        Plan(*arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite(value):
    features = blobs(13)
    features[200, 3] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        run(features, 5)


def test_the_plan_counts_what_it_keeps():
    plan = Plan(392702, 98304, 300)
    assert not plan.is_cached and plan.sizes["projections"] == 392702 * 1024 * 4  # 1.6 GB for MNLI
    assert "feature cache 0.0 MB" in plan.describe()
    assert Plan(2490, 98304, 100).is_cached
