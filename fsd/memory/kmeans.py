"""k-means to convergence, for points that fit in RAM; the streaming k-means uses its functions too.

Shapes: N points of p dimensions, K centroids. Distances are float32, sums float64.
"""

import math

import torch

from fsd.system.errors import InputError
from fsd.system.logs import progress_bar
from fsd.system.random_streams import stream_seed

STARTS = 4  # k-means++ starts; the best one is kept
SAMPLE = 256  # points per centroid in the sample that the starts are tried on
MAX_ITERATIONS = 200  # Lloyd iterations
CONVERGED = 1e-6  # the iterations stop when inertia falls by less than this share
CHUNK = 8192  # points per block of distances; limits RAM


def cluster_points(points, num_clusters, seed):
    """Cluster points [N, p] from the best of several k-means++ starts. Centres ``points`` in place.

    Returns:
        assignment [N] without empty clusters, and the inertia: the sum of squared distances to the nearest centroids.

    Raises:
        InputError: no start has a finite inertia.
    """
    points -= points.mean(dim=0)
    squared_norms = torch.linalg.vector_norm(points, dim=1).square()
    generator = torch.Generator().manual_seed(stream_seed(seed, "k-means starts"))
    rows = torch.randperm(len(points), generator=generator)[: SAMPLE * num_clusters].to(points.device)
    sample, sample_norms = points[rows], squared_norms[rows]
    best_centroids, best_inertia = None, math.inf
    for start in range(STARTS):
        with progress_bar(desc=f"start {start + 1}/{STARTS}", unit="step", leave=False) as bar:
            centroids = starting_centroids(sample, sample_norms, num_clusters, generator, bar)
            centroids, _, inertia = converge(sample, sample_norms, centroids, bar)
        if inertia < best_inertia:
            best_centroids, best_inertia = centroids, inertia
    if best_centroids is None:
        raise InputError("--model_name_or_path: the teacher's features are too large for float32; name another teacher")
    with progress_bar(desc="all examples", unit="step", leave=False) as bar:
        _, assignment, inertia = converge(points, squared_norms, best_centroids, bar)
    return assignment, inertia


def starting_centroids(points, squared_norms, num_clusters, generator, bar):
    """Greedy k-means++ [K, p]: each centroid is the best of a few points, drawn in proportion to squared distance.

    Source: Arthur and Vassilvitskii 2007; their discussion suggests to draw several points per step.
    """
    last = len(points) - 1
    draws = torch.rand(num_clusters, 2 + int(math.log(num_clusters)), generator=generator, dtype=torch.float64)
    chosen = (draws[0, :1] * len(points)).long().to(points.device)
    closest = squared_distances(points, squared_norms, points[chosen])[:, 0]
    for draw in draws[1:]:
        cumulative = closest.cpu().double().cumsum(dim=0)  # on CUDA a cumulative sum varies from run to run
        candidates = torch.searchsorted(cumulative, draw * cumulative[-1], right=True).clamp_(max=last)
        candidates = candidates.to(points.device)
        closer = torch.minimum(squared_distances(points, squared_norms, points[candidates]), closest[:, None])
        best = closer.sum(dim=0, dtype=torch.float64).argmin(dim=0, keepdim=True)
        closest = closer.index_select(1, best)[:, 0]
        chosen = torch.cat([chosen, candidates[best]])
        bar.update()
    return points[chosen]


def converge(points, squared_norms, centroids, bar):
    """Lloyd's iterations, starting at ``centroids`` [K, p]; empty clusters are refilled.

    Returns:
        The last centroids, the assignment [N] to them, where empty clusters are refilled, and the inertia before that.
    """
    num_clusters, previous = len(centroids), math.inf
    for _ in range(MAX_ITERATIONS):
        chunks = zip(points.split(CHUNK), squared_norms.split(CHUNK), strict=True)
        nearest = [squared_distances(chunk, norms, centroids).min(dim=1) for chunk, norms in chunks]
        distances, assignment = (torch.cat(parts) for parts in zip(*nearest, strict=True))
        inertia = distances.sum(dtype=torch.float64).item()
        counts = torch.bincount(assignment, minlength=num_clusters)
        farthest = distances.argsort(stable=True, descending=True)[:num_clusters]
        for position, old, new in refill_moves(counts, assignment[farthest]):
            assignment[farthest[position]] = new
            counts[old] -= 1
            counts[new] += 1
        bar.update()
        bar.set_postfix_str(f"inertia {inertia:.6g}")
        if previous - inertia <= CONVERGED * inertia:
            break
        previous = inertia
        sums = torch.zeros_like(centroids, dtype=torch.float64)
        for chunk, assigned in zip(points.split(CHUNK), assignment.split(CHUNK), strict=True):
            sums += product(membership(assigned, num_clusters).float().mT, chunk)
        centroids = (sums / counts[:, None]).float()
    return centroids, assignment, inertia


def refill_moves(counts, clusters):
    """[(position, old cluster, empty cluster)]: moves one example into each empty cluster.

    Args:
        counts: [K].
        clusters: the clusters of the examples that may move, farthest example first. An example may not move if it is the
            last of its cluster. K examples are enough: with e empty clusters, at most K − e of them may not move.
    """
    counts, moves = counts.tolist(), []
    empty = [cluster for cluster, count in enumerate(counts) if count == 0]
    for position, cluster in enumerate(clusters.tolist() if empty else ()):
        if len(moves) < len(empty) and counts[cluster] > 1:
            counts[cluster] -= 1
            moves.append((position, cluster, empty[len(moves)]))
    return moves


def membership(assigned, num_clusters):
    """[N, K], true where a point is in a cluster. A product with it sums by cluster; index_add is not deterministic on CUDA."""
    return assigned[:, None] == torch.arange(num_clusters, device=assigned.device)


def squared_distances(points, squared_norms, centroids):
    """Squared distances [N, K] between points [N, p] with squared norms [N] and centroids [K, p]."""
    products = product(points, centroids.mT)
    return (squared_norms[:, None] + centroids.square().sum(dim=1) - 2 * products).clamp_(min=0)


def product(x, y):
    """x @ y in the precision of x and y, even under the caller's autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return x @ y
