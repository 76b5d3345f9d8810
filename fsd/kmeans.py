"""Streaming k-means: clusters features that fit in memory nowhere, in a few passes over them.

Pass 1 keeps a random projection of every example's features and clusters those to convergence. Pass 2 takes the means
of that assignment over the features themselves. Every further pass is one Lloyd iteration: each example is assigned to
the nearest centroid and added to its new cluster at once.

Shapes: N examples, P features, K centroids, b examples of a batch. Products and distances are float32 on features less
a common offset, so that a large one costs no digits; sums over batches are float64. Only the ends of passes wait for
the device.
"""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from fsd.files import InputError
from fsd.seeds import stream_seed

STARTS = 4  # k-means++ starts on the projections, of which the best is kept
MAX_ITERATIONS = 200  # of Lloyd on the projections, a start
CONVERGED = 1e-6  # relative gain of inertia below which those iterations end
CHUNK = 8192  # projections whose distances to all centroids are held at once


@dataclass(frozen=True)
class Plan:
    """What is to be clustered, and what that takes.

    Args:
        num_examples, num_features, num_centroids: N, P, K.
        passes: most passes over the features, at least 2.
        cache_bytes: the features are kept in memory if they take no more than this; then they are computed only once.
        projection_width: dimensions of the random projection; narrower features are taken as they are.

    Raises:
        InputError: K or ``passes`` is below 2, or there are fewer examples than centroids; names the flag.
    """

    num_examples: int
    num_features: int
    num_centroids: int
    passes: int = 3
    cache_bytes: float = 4e9
    projection_width: int = 1024

    def __post_init__(self):
        if self.num_centroids < 2:
            raise InputError(f"--num_centroid {self.num_centroids}: a memory has at least 2 centroids")
        if self.num_centroids > self.num_examples:
            raise InputError(f"--num_centroid {self.num_centroids}: there are only {self.num_examples} examples; lower it")
        if self.passes < 2:
            raise InputError(f"--memory_num_train_epochs {self.passes}: the first means are taken in pass 2; give at least 2")

    @property
    def is_projected(self):
        """Whether the features are wider than the projection."""
        return self.num_features > self.projection_width

    @property
    def is_cached(self):
        """Whether the features are kept, and so computed only once."""
        return 4 * self.num_examples * self.num_features <= self.cache_bytes

    @property
    def sizes(self):
        """Bytes by what they hold."""
        width = min(self.projection_width, self.num_features)
        centroids = 4 * self.num_centroids * self.num_features
        return {
            "projections": 4 * self.num_examples * width,
            "projection matrix": 4 * self.num_features * width if self.is_projected else 0,
            "centroids": 2 * centroids,  # of this pass and of the last
            "sums": 3 * centroids,  # float64, and a batch's float32
            "farthest examples": centroids if self.passes > 2 else 0,
            "feature cache": 4 * self.num_examples * self.num_features if self.is_cached else 0,
        }

    @property
    def peak_bytes(self):
        """The most that is held at once; the projections are gone when the means are taken."""
        sizes = self.sizes
        first = sizes["projections"] + sizes["projection matrix"]
        return max(first, sizes["centroids"] + sizes["sums"] + sizes["farthest examples"]) + sizes["feature cache"]

    def describe(self):
        """One line: sizes, passes, memory."""
        sizes = ", ".join(f"{name} {_bytes(size)}" for name, size in self.sizes.items())
        runs = "the features are kept and computed once" if self.is_cached else (
            f"the features would take {_bytes(4 * self.num_examples * self.num_features)}, more than "
            f"{_bytes(self.cache_bytes)}, so they are computed in each pass"
        )  # fmt: skip
        return (
            f"k-means of {self.num_examples:,} examples × {self.num_features:,} features into {self.num_centroids} "
            f"centroids in {self.passes} passes; {runs}; memory: {sizes}; at most {_bytes(self.peak_bytes)} at once"
        )


@dataclass(frozen=True)
class PassReport:
    """What one pass did.

    ``inertia`` is the sum of squared distances to the means of the pass's assignment; in pass 1 that of the
    projections, which estimates it. ``refilled`` counts clusters that ended the pass empty and were given an example.
    ``shift`` is the root mean square distance that centroids moved, None before pass 3.
    """

    number: int
    passes: int
    inertia: float
    refilled: int
    shift: float | None
    seconds: float
    examples_per_second: float

    def describe(self):
        """One line of all of it."""
        where = " (of the projections)" if self.number == 1 else ""
        shift = "" if self.shift is None else f", centroids moved {self.shift:.4g}"
        return (
            f"pass {self.number}/{self.passes}: inertia {self.inertia:.6g}{where}, {self.refilled} empty clusters "
            f"refilled{shift}, {self.seconds:.1f} s, {self.examples_per_second:.1f} examples/s"
        )


@dataclass(frozen=True)
class Clustering:
    """Centroids [K, P] float32, and the assignment whose means they are, all on the CPU.

    ``counts`` [K] (int64, each at least 1) and ``inertia`` belong to ``assignment`` [N] (int64), in which the examples
    were nearest to the centroids of the pass before. ``history`` has one :class:`PassReport` a pass.
    """

    centroids: Tensor
    counts: Tensor
    assignment: Tensor
    inertia: float
    history: list

    @property
    def passes(self):
        """Passes that were run."""
        return len(self.history)


@dataclass
class State:
    """What a pass hands to the next, on the device.

    ``offset`` [P] is the mean of all examples; ``centroids`` [K, P] are less the offset, None after pass 1;
    ``assignment`` [N]; ``counts`` [K].
    """

    offset: Tensor
    assignment: Tensor
    inertia: float
    counts: Tensor | None = None
    centroids: Tensor | None = None
    refilled: int = 0
    shift: float | None = None


@torch.no_grad()
def cluster(feature_batches, plan, *, seed, device, tolerance=1e-4, log=None, progress=True):
    """Cluster features into K centroids, in at most ``plan.passes`` passes.

    Args:
        feature_batches: callable; each call returns an iterator of (index of the first example, features [b, P]) over
            all examples in order, in the same batches each time. Called once if ``plan.is_cached``, else once a pass.
        plan: the :class:`Plan`.
        seed: of the projection and the starts. The same seed gives the same bits on the same machine.
        device: where everything is computed and kept.
        tolerance: passes end early when one lowers inertia by no more than this share.
        log: called with the :class:`PassReport` of each pass, unless None.
        progress: show a bar for each pass.

    Returns:
        :class:`Clustering`

    Raises:
        InputError: the features hold NaN or infinity.
    """
    source = FeatureSource(feature_batches, plan, torch.device(device), progress)
    state, history = None, []
    for number in range(1, plan.passes + 1):
        start = time.perf_counter()
        if number == 1:
            state = projection_pass(source, plan, seed)
        elif number == 2:
            state = mean_pass(source, plan, state)
        else:
            state = lloyd_pass(source, plan, state, number)
        seconds = time.perf_counter() - start
        rate = plan.num_examples / seconds
        history.append(PassReport(number, plan.passes, state.inertia, state.refilled, state.shift, seconds, rate))
        if log is not None:
            log(history[-1])
        if number > 2 and history[-2].inertia - state.inertia <= tolerance * history[-2].inertia:
            break
    centroids = (state.centroids + state.offset).cpu()
    return Clustering(centroids, state.counts.cpu(), state.assignment.cpu(), state.inertia, history)


class FeatureSource:
    """The batches of a pass as float32 on the device: from the caller, or once they are kept from the cache."""

    def __init__(self, feature_batches, plan, device, progress):
        self.feature_batches, self.plan, self.device, self.progress = feature_batches, plan, device, progress
        self.cache, self.bounds = None, []

    def batches(self, number):
        """Yield (index of the first example, features [b, P]) for pass ``number``, under a progress bar."""
        name = f"memory, pass {number}/{self.plan.passes}"
        with tqdm(total=self.plan.num_examples, desc=name, unit="example", disable=not self.progress) as bar:
            for start, features in self._kept() if self.cache is not None else self._computed():
                yield start, features
                bar.update(len(features))

    def _kept(self):
        for start, end in self.bounds:
            yield start, self.cache[start:end]

    def _computed(self):
        plan, end = self.plan, 0
        shape = (plan.num_examples, plan.num_features)
        cache = torch.empty(shape, device=self.device) if plan.is_cached else None
        for start, features in self.feature_batches():
            features = features.detach().to(self.device, torch.float32)
            if start != end or features.shape[1:] != shape[1:]:
                raise ValueError(f"features {tuple(features.shape)} at example {start}; awaited [b, {shape[1]}] at {end}")
            end = start + len(features)
            if cache is not None:
                cache[start:end] = features
                self.bounds.append((start, end))
            yield start, features
        if end != plan.num_examples:
            raise ValueError(f"features of {end} examples; awaited {plan.num_examples}")
        self.cache = cache


def projection_pass(source, plan, seed):
    """Pass 1: cluster a random projection of the features; the offset becomes the mean of all examples."""
    device, num_examples = source.device, plan.num_examples
    projection = projection_matrix(plan, seed).to(device) if plan.is_projected else None
    points = torch.empty(num_examples, min(plan.projection_width, plan.num_features), device=device)
    total = torch.zeros(plan.num_features, dtype=torch.float64, device=device)
    offset = None
    for start, features in source.batches(1):
        if offset is None:
            offset = features.mean(dim=0)
            _check_finite(offset)  # at once: a broken teacher should not cost a whole pass
        shifted = features - offset
        total += shifted.sum(dim=0)
        points[start : start + len(features)] = shifted if projection is None else _product(shifted, projection)
    _check_finite(total)
    del projection
    assignment, inertia = cluster_points(points, plan.num_centroids, seed, source.progress)
    return State(offset + (total / num_examples).float(), assignment, inertia)


def projection_matrix(plan, seed):
    """Gaussian [P, width], scaled to keep squared norms in expectation; drawn on the CPU, so alike on every device."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "projection"))
    matrix = torch.randn(plan.num_features, plan.projection_width, generator=generator)
    return matrix.mul_(plan.projection_width**-0.5)


def mean_pass(source, plan, state):
    """Pass 2: the means of pass 1's assignment."""
    totals = Totals(plan, source.device)
    for start, features in source.batches(2):
        shifted = features - state.offset
        totals.add(shifted, state.assignment[start : start + len(features)])
    inertia = totals.inertia()
    return State(state.offset, state.assignment, inertia, totals.counts, totals.means())


def lloyd_pass(source, plan, state, number):
    """A pass after the second: assign each example to the nearest centroid, take the means, refill empty clusters."""
    totals, farthest = Totals(plan, source.device), Farthest(plan, source.device)
    squared_norms = state.centroids.square().sum(dim=1)
    for start, features in source.batches(number):
        shifted = features - state.offset
        nearest, assigned = (squared_norms - 2 * _product(shifted, state.centroids.mT)).min(dim=1)
        farthest.offer(start, shifted, nearest + totals.add(shifted, assigned))
        state.assignment[start : start + len(features)] = assigned
    refilled = farthest.refill(totals, state.assignment)
    inertia, centroids = totals.inertia(), totals.means()
    shift = (centroids - state.centroids).square().sum(dim=1).mean().sqrt().item()
    return State(state.offset, state.assignment, inertia, totals.counts, centroids, refilled, shift)


class Totals:
    """Sums [K, P] and counts [K] of an assignment, and the sum of all squared norms, added up batch by batch."""

    def __init__(self, plan, device):
        self.sums = torch.zeros(plan.num_centroids, plan.num_features, dtype=torch.float64, device=device)
        self.counts = torch.zeros(plan.num_centroids, dtype=torch.int64, device=device)
        self.squares = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, shifted, assigned):
        """Add features [b, P] (less the offset) to their clusters [b]; returns their squared norms [b]."""
        squared_norms = shifted.square().sum(dim=1, dtype=torch.float64)
        self.squares += squared_norms.sum()
        sums, counts = cluster_sums(shifted, assigned, len(self.counts))
        self.sums += sums
        self.counts += counts
        return squared_norms.float()

    def means(self):
        """The centroids [K, P], less the offset."""
        return (self.sums / self.counts[:, None]).float()

    def inertia(self):
        """Σ‖x‖² − Σ n_k‖μ_k‖², on features less the offset."""
        _check_finite(self.squares)
        explained = sum((row.square().sum() for row in self.sums) / self.counts) if False else (
            torch.stack([row.square().sum() for row in self.sums]) / self.counts
        ).sum()
        return max((self.squares - explained).item(), 0.0)
