"""Streaming k-means: clusters features that fit in memory nowhere, in a few passes over them.

Pass 1 keeps a random projection of every example's features and clusters those to convergence. Pass 2 takes the means
of that assignment over the features themselves. Every further pass is one Lloyd iteration: each example is assigned to
the nearest centroid and added to its new cluster at once.

Of several processes each is given the features of a contiguous share of the examples, and sums go over all processes.

Shapes: N examples, P features, K centroids, b examples of a batch. Products and distances are float32 on features less
a common offset, so that a large one costs no digits; sums over batches are float64. Only the ends of passes wait for
the device.
"""

import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor
from tqdm import tqdm

from fsd.distributed import check_same, every_process, rank, sum_over_processes, world_size
from fsd.files import InputError, is_main_process, written_whole
from fsd.lloyd import SAMPLE, cluster_points, membership, product, refill_moves
from fsd.seeds import stream_seed

logger = logging.getLogger(__name__)

ESTIMATE_AFTER = 20  # seconds into the first pass at which its rate says how long all of it will take


@dataclass(frozen=True)
class Plan:
    """What is to be clustered, and what that takes.

    Args:
        num_examples, num_features, num_centroids: N, P, K.
        passes: most passes over the features, at least 2.
        cache_bytes: the features are kept in memory if they take no more than this; then they are computed only once.
        projection_width: dimensions of the random projection; narrower features are taken as they are.
        batch_size: examples whose features come at once.

    Raises:
        InputError: K or ``passes`` is below 2, or there are fewer examples than centroids; names the flag.
    """

    num_examples: int
    num_features: int
    num_centroids: int
    passes: int = 3
    cache_bytes: float = 4e9
    projection_width: int = 1024
    batch_size: int = 32

    def __post_init__(self):
        if self.num_centroids < 2:
            raise InputError(f"--num_centroid {self.num_centroids}: a memory has at least 2 centroids")
        if self.num_centroids > self.num_examples:
            raise InputError(f"--num_centroid {self.num_centroids}: only {self.num_examples} examples; lower it")
        if self.passes < 2:
            raise InputError(f"--memory_num_train_epochs {self.passes}: at least 2, the first means are pass 2's")

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
            "sample for the starts": 4 * min(self.num_examples, SAMPLE * self.num_centroids) * width,
            "centroids": 2 * centroids,  # of this pass and of the last
            "sums": 2 * centroids,  # float64
            "farthest examples": centroids if self.passes > 2 else 0,
            "products' own copies": centroids if self.passes > 2 else 0,  # measured: a CPU's library packs the centroids
            "batches": 40 * self.batch_size * self.num_features,  # measured: ten copies at different stages
            "feature cache": 4 * self.num_examples * self.num_features if self.is_cached else 0,
        }

    @property
    def peak_bytes(self):
        """The most that is held at once, beside the teacher.

        The matrix is gone when the starts are tried, the projections when the means are taken.
        """
        sizes = self.sizes
        first = sizes["projections"] + max(sizes["projection matrix"], sizes["sample for the starts"])
        later = sum(sizes[name] for name in ("centroids", "sums", "farthest examples", "products' own copies"))
        return max(first, later) + sizes["batches"] + sizes["feature cache"]

    def describe(self):
        """One line: sizes, passes, memory."""
        sizes = ", ".join(f"{name} {_bytes(size)}" for name, size in self.sizes.items())
        runs = "the features are kept and computed once" if self.is_cached else (
            f"the features would take {_bytes(4 * self.num_examples * self.num_features)}, more than "
            f"{_bytes(self.cache_bytes)}, so they are computed in each pass"
        )  # fmt: skip
        return (
            f"k-means of {self.num_examples:,} examples × {self.num_features:,} features into {self.num_centroids} "
            f"centroids in {self.passes} passes; {runs}; memory: {sizes}; at most {_bytes(self.peak_bytes)} at once, "
            "beside the teacher"
        )


    def describe_time(self, examples_per_second):
        """One line: how long it takes at the rate of the first pass."""
        a_pass = self.num_examples / examples_per_second
        runs = 1 if self.is_cached else self.passes
        return (
            f"at {examples_per_second:.4g} examples/s a pass takes about {_duration(a_pass)}, all {self.passes} about "
            f"{_duration(runs * a_pass)}, and the clustering of the projections comes on top"
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

    ``offset`` [P] is the mean of all examples; ``assignment`` [N]; ``counts`` [K] and ``centroids`` [K, P], less the
    offset, are None after pass 1.
    """

    offset: Tensor
    assignment: Tensor
    inertia: float
    counts: Tensor | None = None
    centroids: Tensor | None = None
    refilled: int = 0
    shift: float | None = None


def save_state(path, state, history):
    """Write what a pass leaves and the reports of all so far, whole or not at all."""
    values = vars(state)
    tensors = {name: value.cpu().contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    plain = {name: value for name, value in values.items() if name not in tensors}
    facts = {"state": plain, "history": [asdict(report) for report in history]}
    with written_whole(path) as temporary:
        temporary.write_bytes(safetensors.save(tensors, {name: json.dumps(value) for name, value in facts.items()}))


def load_state(path, device):
    """What :func:`save_state` wrote: (:class:`State`, history).

    Raises:
        InputError: it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118 (not a dict)
            facts = {name: json.loads(value) for name, value in file.metadata().items()}
        state = State(**facts["state"] | tensors)
        return state, [PassReport(**report) for report in facts["history"]]
    except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: cannot go on from it: {error}; remove it to begin anew") from error


@torch.no_grad()
def cluster(
    feature_batches, plan, *, seed, device, tolerance=1e-4, log=None, progress=True, examples=None, state_file=None
):
    """Cluster features into K centroids, in at most ``plan.passes`` passes.

    Args:
        feature_batches: callable; each call returns an iterator of (index of the first example, features [b, P]) over
            ``examples`` in order, in the same batches each time. Called once if ``plan.is_cached``, else once a pass.
        plan: the :class:`Plan`.
        seed: of the projection and the starts. The same seed gives the same bits on the same machine.
        device: where everything is computed and kept.
        tolerance: passes end early when one lowers inertia by no more than this share.
        log: called with the :class:`PassReport` of each pass, unless None.
        progress: show a bar for each pass.
        examples: this process's part of all N, a range that begins at 0 in the first process; None for all of them.
        state_file: path that the state is kept in between passes, unless None. Passes that it already holds are not run
            again, and the result is the same.

    Returns:
        :class:`Clustering`, the same in every process

    Raises:
        InputError: the features hold NaN or infinity.
    """
    source = FeatureSource(feature_batches, plan, torch.device(device), progress, examples)
    state, history = None, []
    if state_file is not None and Path(state_file).exists():
        state, history = load_state(state_file, source.device)
        for report in history if log is not None else ():
            log(report)
    check_same({"state of the clustering": f"{len(history):x}"})
    while not _is_done(history, plan, tolerance):
        start, number = time.perf_counter(), len(history) + 1
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
        if state_file is not None and is_main_process():
            save_state(state_file, state, history)
    centroids = (state.centroids + state.offset).cpu()
    return Clustering(centroids, state.counts.cpu(), state.assignment.cpu(), state.inertia, history)


def _is_done(history, plan, tolerance):
    """Whether all passes were run, or the last gained too little."""
    if len(history) < 3:
        return len(history) == plan.passes
    gain = history[-2].inertia - history[-1].inertia
    return len(history) == plan.passes or gain <= tolerance * history[-2].inertia


class FeatureSource:
    """The batches of a pass as float32 on the device: from the caller, or once they are kept from the cache."""

    def __init__(self, feature_batches, plan, device, progress, examples=None):
        self.feature_batches, self.plan, self.device, self.progress = feature_batches, plan, device, progress
        self.examples = range(plan.num_examples) if examples is None else examples
        self.cache, self.bounds = None, []
        self.first_batch, self.has_told_time = None, False

    def batches(self, number):
        """Yield (index of the first example, features [b, P]) for pass ``number``, under a progress bar."""
        name = f"memory, pass {number}/{self.plan.passes}"
        with tqdm(total=len(self.examples), desc=name, unit="example", disable=not self.progress) as bar:
            for start, features in self._computed() if self.cache is None else self._kept():
                yield start, features
                bar.update(len(features))
                if number == 1:
                    self._tell_time(start + len(features))

    def _tell_time(self, done):
        """Once, some way into the first pass: how long all of it will take."""
        now = time.perf_counter()
        if self.first_batch is None:
            self.first_batch = done, now  # it warms up, so its own time is left out
        elif not self.has_told_time and now - self.first_batch[1] > ESTIMATE_AFTER:
            self.has_told_time = True
            rate = world_size() * (done - self.first_batch[0]) / (now - self.first_batch[1])
            logger.info("%s", self.plan.describe_time(rate))

    def _kept(self):
        first = self.examples.start
        for start, end in self.bounds:
            yield start, self.cache[start - first : end - first]

    def _computed(self):
        first, stop, width = self.examples.start, self.examples.stop, self.plan.num_features
        cache = torch.empty(len(self.examples), width, device=self.device) if self.plan.is_cached else None
        end = first
        for start, features in self.feature_batches():
            features = features.detach().to(self.device, torch.float32)
            if start != end or features.shape != (len(features), width) or start + len(features) > stop:
                raise ValueError(f"features {tuple(features.shape)} at {start}, not [b, {width}] at {end} of {stop}")
            end += len(features)
            if cache is not None:
                cache[start - first : end - first] = features
                self.bounds.append((start, end))
            yield start, features
        if end != stop:
            raise ValueError(f"features of {end - first} examples, not {len(self.examples)}")
        self.cache = cache


def projection_pass(source, plan, seed):
    """Pass 1: cluster a random projection of the features; the offset becomes the mean of all examples."""
    device, num_examples = source.device, plan.num_examples
    projection = projection_matrix(plan, seed).to(device) if plan.is_projected else None
    points = torch.zeros(num_examples, min(plan.projection_width, plan.num_features), device=device)
    total = torch.zeros(plan.num_features, dtype=torch.float64, device=device)
    offset = None
    for start, features in source.batches(1):
        if offset is None:
            offset = first_offset(features)
            check_finite(offset)  # at once: a broken teacher should not cost a whole pass
        shifted = features - offset
        total += shifted.sum(dim=0)
        points[start : start + len(features)] = shifted if projection is None else product(shifted, projection)
    if offset is None:  # a process without examples
        offset = first_offset(torch.zeros(1, plan.num_features, device=device))
    check_finite(sum_over_processes(total))
    del projection
    # Every process clusters all projections: that takes no longer than waiting for one that does.
    sum_over_processes(points)
    assignment, inertia = cluster_points(points, plan.num_centroids, seed, source.progress)
    return State(offset + (total / num_examples).float(), assignment, inertia)


def first_offset(features):
    """The mean [P] of the first process's first batch, in every process."""
    offset = features.mean(dim=0)
    return sum_over_processes(offset if rank() == 0 else torch.zeros_like(offset))


def projection_matrix(plan, seed):
    """Gaussian [P, width], scaled to keep squared norms in expectation; drawn on the CPU, so alike on every device."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "projection"))
    matrix = torch.randn(plan.num_features, plan.projection_width, generator=generator)
    return matrix.mul_(plan.projection_width**-0.5)


def mean_pass(source, plan, state):
    """Pass 2: the means of pass 1's assignment."""
    totals = Totals(plan, source.device)
    for start, features in source.batches(2):
        totals.add(features - state.offset, state.assignment[start : start + len(features)])
    totals.sum_over_processes()
    centroids, inertia = totals.finish()
    return State(state.offset, state.assignment, inertia, totals.counts, centroids)


def lloyd_pass(source, plan, state, number):
    """A pass after the second: assign each example to the nearest centroid, take the means, refill empty clusters."""
    totals, farthest = Totals(plan, source.device), Farthest(plan, source.device)
    squared_norms = torch.linalg.vector_norm(state.centroids, dim=1).square()
    assignment = torch.zeros_like(state.assignment)
    for start, features in source.batches(number):
        shifted = features - state.offset
        nearest, assigned = (squared_norms - 2 * product(shifted, state.centroids.mT)).min(dim=1)
        farthest.offer(start, shifted, nearest + totals.add(shifted, assigned))
        assignment[start : start + len(features)] = assigned
    totals.sum_over_processes()
    refilled = farthest.refill(totals, sum_over_processes(assignment))
    centroids, inertia = totals.finish()
    # One by one, for all differences at once would take as much memory as the centroids.
    moved = torch.stack([torch.dist(new, old) for new, old in zip(centroids, state.centroids, strict=True)])
    shift = moved.square().mean().sqrt().item()
    return State(state.offset, assignment, inertia, totals.counts, centroids, refilled, shift)


class Totals:
    """Sums [K, P] and counts [K] of an assignment, and the sum of all squared norms, added up batch by batch."""

    def __init__(self, plan, device):
        self.sums = torch.zeros(plan.num_centroids, plan.num_features, dtype=torch.float64, device=device)
        self.counts = torch.zeros(plan.num_centroids, dtype=torch.int64, device=device)
        self.squares = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, shifted, assigned):
        """Add features [b, P], less the offset, to their clusters [b]; returns their squared norms [b]."""
        members = membership(assigned, len(self.counts))
        self.sums.addmm_(members.double().mT, shifted.double())
        self.counts += members.sum(dim=0)
        squared_norms = shifted.square().sum(dim=1, dtype=torch.float64)
        self.squares += squared_norms.sum()
        return squared_norms.float()

    def sum_over_processes(self):
        """Add up what the processes have added."""
        for part in (self.sums, self.counts, self.squares):
            sum_over_processes(part)

    def finish(self):
        """The centroids [K, P], less the offset, and the inertia Σ‖x‖² − Σ n_k‖μ_k‖². Turns the sums into means."""
        check_finite(self.squares)
        self.sums /= self.counts[:, None]
        explained = (self.counts * torch.linalg.vector_norm(self.sums, dim=1).square()).sum()
        return self.sums.float(), max((self.squares - explained).item(), 0.0)


class Farthest:
    """The K examples farthest from their centroids so far, with features: empty clusters are refilled from them."""

    def __init__(self, plan, device):
        count = plan.num_centroids
        self.distances = torch.full((count,), -math.inf, device=device)
        self.indices = torch.zeros(count, dtype=torch.int64, device=device)
        self.features = torch.zeros(count, plan.num_features, device=device)

    def offer(self, start, shifted, distances):
        """Keep the farthest of what is kept and of features [b, P] from ``start`` on, with squared distances [b]."""
        count = min(len(self.distances), len(distances))
        nearest, slots = (values[:count] for values in self.distances.sort(stable=True))
        farthest, rows = (values[:count] for values in distances.sort(stable=True, descending=True))
        # The batch's farthest takes the place of the nearest kept, its next that of the next, as long as it is farther.
        better = farthest > nearest
        self.distances[slots] = torch.where(better, farthest, nearest)
        self.indices[slots] = torch.where(better, start + rows, self.indices[slots])
        self.features[slots] = torch.where(better[:, None], shifted[rows], self.features[slots])

    def refill(self, totals, assignment):
        """Move one example into each empty cluster, in ``totals`` and ``assignment`` [N]; returns how many were empty."""
        distances, indices = every_process(self.distances).flatten(), every_process(self.indices).flatten()
        order = distances.argsort(stable=True, descending=True)[: len(self.distances)]
        moves = refill_moves(totals.counts, assignment[indices[order]])
        for position, old, new in moves:
            owner, slot = divmod(order[position].item(), len(self.distances))
            example = self.features[slot] if owner == rank() else torch.zeros_like(self.features[slot])
            example = sum_over_processes(example).double()
            totals.sums[old] -= example
            totals.sums[new] = example
            totals.counts[old] -= 1
            totals.counts[new] += 1
            assignment[indices[order[position]]] = new
        return len(moves)


def check_finite(tensor):
    """Refuse features whose sums are NaN or infinite."""
    if not torch.isfinite(tensor).all():
        raise InputError("the teacher's features hold NaN or infinity; name another --model_name_or_path")


def _duration(seconds):
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _bytes(size):
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
