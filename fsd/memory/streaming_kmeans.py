"""Streaming k-means: clusters features that do not fit in RAM, in a few passes over them.

Pass 1 clusters random projections of the features to convergence. Pass 2 computes the mean features of each cluster.
Every later pass is one Lloyd iteration: it assigns each example to the nearest centroid and computes the new means.

With several processes, each process reads the features of a contiguous part of the examples, and the sums are added over
all processes.

Shapes: N examples, P features, K centroids, b examples in a batch. Products and distances are float32; a common offset is
subtracted from the features to avoid rounding errors. Sums over batches are float64. Only the end of a pass waits for
the device.
"""

import math
import time
from pathlib import Path

import torch

from fsd.memory.clustering_state import Clustering, PassReport, State, load_state, save_state
from fsd.memory.feature_source import FeatureSource
from fsd.memory.kmeans import cluster_points, membership, product, refill_moves
from fsd.system.errors import InputError
from fsd.system.launcher import is_main_process
from fsd.system.processes import check_same, every_process, rank, sum_over_processes
from fsd.system.random_streams import stream_seed


@torch.no_grad()
def cluster(
    feature_batches, plan, *, seed, device, tolerance=1e-4, log=None, examples=None, state_file=None
):
    """Cluster features into K centroids in at most ``plan.passes`` passes.

    Args:
        feature_batches: callable; each call returns an iterator of (index of the first example, features [b, P]) over
            ``examples`` in order, in the same batches each time. Called once if ``plan.is_cached``, else once per pass.
        plan: the :class:`Plan`.
        seed: for the projection and the starts. The same seed gives the same bits on the same machine.
        device: where everything is computed and stored.
        tolerance: the clustering stops early after a pass that lowers inertia by at most this share.
        log: called with the :class:`PassReport` of each pass, or None.
        examples: range of this process's examples, which starts at 0 in the first process; None for all N.
        state_file: file for the state between passes, or None. If the file exists, the clustering resumes from it, with the
            same result.

    Returns:
        :class:`Clustering`, the same in every process.

    Raises:
        InputError: the features hold NaN or infinity, or ``state_file`` is damaged.
    """
    source = FeatureSource(feature_batches, plan, torch.device(device), examples)
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
    """Whether all passes ran, or the last one gained too little."""
    if len(history) < 3:
        return len(history) == plan.passes
    gain = history[-2].inertia - history[-1].inertia
    return len(history) == plan.passes or gain <= tolerance * history[-2].inertia


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
            check_finite(offset)  # now, because a broken teacher should not cost a whole pass
        shifted = features - offset
        total += shifted.sum(dim=0)
        points[start : start + len(features)] = shifted if projection is None else product(shifted, projection)
    if offset is None:  # a process without examples
        offset = first_offset(torch.zeros(1, plan.num_features, device=device))
    check_finite(sum_over_processes(total))
    del projection
    # Every process clusters all projections; waiting for one process to do it would take as long.
    sum_over_processes(points)
    assignment, inertia = cluster_points(points, plan.num_centroids, seed)
    return State(offset + (total / num_examples).float(), assignment, inertia)


def first_offset(features):
    """The mean [P] of the first batch of the first process, sent to every process."""
    offset = features.mean(dim=0)
    return sum_over_processes(offset if rank() == 0 else torch.zeros_like(offset))


def projection_matrix(plan, seed):
    """Gaussian [P, width], scaled to keep expected squared norms; drawn on the CPU, so it is the same on every device."""
    generator = torch.Generator().manual_seed(stream_seed(seed, "projection"))
    matrix = torch.randn(plan.num_features, plan.projection_width, generator=generator)
    return matrix.mul_(plan.projection_width**-0.5)


def mean_pass(source, plan, state):
    """Pass 2: compute the means of pass 1's assignment."""
    totals = Totals(plan, source.device)
    for start, features in source.batches(2):
        totals.add(features - state.offset, state.assignment[start : start + len(features)])
    totals.sum_over_processes()
    centroids, inertia = totals.finish()
    return State(state.offset, state.assignment, inertia, totals.counts, centroids)


def lloyd_pass(source, plan, state, number):
    """Any later pass: assign each example to the nearest centroid, refill empty clusters, compute the means."""
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
    # One by one: all differences at once would need as much RAM as the centroids.
    moved = torch.stack([torch.dist(new, old) for new, old in zip(centroids, state.centroids, strict=True)])
    shift = moved.square().mean().sqrt().item()
    return State(state.offset, assignment, inertia, totals.counts, centroids, refilled, shift)


class Totals:
    """Sums [K, P] and counts [K] of the clusters, and the sum of all squared norms, added batch by batch."""

    def __init__(self, plan, device):
        self.sums = torch.zeros(plan.num_centroids, plan.num_features, dtype=torch.float64, device=device)
        self.counts = torch.zeros(plan.num_centroids, dtype=torch.int64, device=device)
        self.squares = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, shifted, assigned):
        """Add features [b, P], minus the offset, to their clusters [b]; returns the squared norms [b] of the features."""
        members = membership(assigned, len(self.counts))
        self.sums.addmm_(members.double().mT, shifted.double())
        self.counts += members.sum(dim=0)
        squared_norms = shifted.square().sum(dim=1, dtype=torch.float64)
        self.squares += squared_norms.sum()
        return squared_norms.float()

    def sum_over_processes(self):
        """Add the totals of all processes."""
        for part in (self.sums, self.counts, self.squares):
            sum_over_processes(part)

    def finish(self):
        """The centroids [K, P], minus the offset, and the inertia Σ‖x‖² − Σ n_k‖μ_k‖². Replaces the sums by the means."""
        check_finite(self.squares)
        self.sums /= self.counts[:, None]
        explained = (self.counts * torch.linalg.vector_norm(self.sums, dim=1).square()).sum()
        return self.sums.float(), max((self.squares - explained).item(), 0.0)


class Farthest:
    """The K examples farthest from their centroids so far, with their features. They refill empty clusters."""

    def __init__(self, plan, device):
        count = plan.num_centroids
        self.distances = torch.full((count,), -math.inf, device=device)
        self.indices = torch.zeros(count, dtype=torch.int64, device=device)
        self.features = torch.zeros(count, plan.num_features, device=device)

    def offer(self, start, shifted, distances):
        """Keep the K farthest of the kept examples and a batch: features [b, P] from ``start`` on, squared distances [b]."""
        count = min(len(self.distances), len(distances))
        nearest, slots = (values[:count] for values in self.distances.sort(stable=True))
        farthest, rows = (values[:count] for values in distances.sort(stable=True, descending=True))
        # The batch's farthest example replaces the nearest kept one, the next the next, as long as it is farther.
        better = farthest > nearest
        self.distances[slots] = torch.where(better, farthest, nearest)
        self.indices[slots] = torch.where(better, start + rows, self.indices[slots])
        self.features[slots] = torch.where(better[:, None], shifted[rows], self.features[slots])

    def refill(self, totals, assignment):
        """Move one example into each empty cluster, in ``totals`` and ``assignment`` [N]; returns the number of moves."""
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
    """InputError if a sum of the features is NaN or infinite."""
    if not torch.isfinite(tensor).all():
        raise InputError("--model_name_or_path: the teacher's features hold NaN or infinity; name another teacher")
