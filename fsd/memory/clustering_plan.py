"""The cost of a streaming k-means (passes, RAM, time), known before it starts."""

from dataclasses import dataclass

from fsd.memory.kmeans import SAMPLE
from fsd.system.logs import duration


@dataclass(frozen=True)
class Plan:
    """The sizes of a clustering, and its cost.

    Args:
        num_examples, num_features, num_centroids: N, P, K.
        passes: maximum number of passes over the features, at least 2.
        cache_bytes: if all features fit in this many bytes, they are kept in RAM and computed only once.
        projection_width: dimensions of the random projection; narrower features are not projected.
        batch_size: examples per batch of features.

    Raises:
        ValueError: K or ``passes`` is below 2, or there are fewer examples than centroids.
    """

    num_examples: int
    num_features: int
    num_centroids: int
    passes: int = 3
    cache_bytes: float = 4e9
    projection_width: int = 1024
    batch_size: int = 32

    def __post_init__(self):
        if not 2 <= self.num_centroids <= self.num_examples or self.passes < 2:
            raise ValueError(f"{self.num_examples} examples cannot be clustered into {self.num_centroids} centroids in "
                             f"{self.passes} passes: K and passes are at least 2, and K at most the number of examples")

    @property
    def is_projected(self):
        """Whether the features are wider than the projection."""
        return self.num_features > self.projection_width

    @property
    def is_cached(self):
        """Whether the features are kept in RAM, so that they are computed only once."""
        return 4 * self.num_examples * self.num_features <= self.cache_bytes

    @property
    def sizes(self):
        """Bytes of each buffer, by name."""
        width = min(self.projection_width, self.num_features)
        centroids = 4 * self.num_centroids * self.num_features
        return {
            "projections": 4 * self.num_examples * width,
            "projection matrix": 4 * self.num_features * width if self.is_projected else 0,
            "sample for the starts": 4 * min(self.num_examples, SAMPLE * self.num_centroids) * width,
            "centroids": 2 * centroids,  # this pass's and the last one's
            "sums": 2 * centroids,  # float64
            "farthest examples": centroids if self.passes > 2 else 0,
            "products' own copies": centroids if self.passes > 2 else 0,  # measured: a CPU's library copies the centroids
            "batches": 40 * self.batch_size * self.num_features,  # measured: ten copies at different stages
            "feature cache": 4 * self.num_examples * self.num_features if self.is_cached else 0,
        }

    @property
    def peak_bytes(self):
        """Peak RAM in bytes, without the teacher.

        The projection matrix is freed before the starts are tried, and the projections before the means are computed.
        """
        sizes = self.sizes
        first = sizes["projections"] + max(sizes["projection matrix"], sizes["sample for the starts"])
        later = sum(sizes[name] for name in ("centroids", "sums", "farthest examples", "products' own copies"))
        return max(first, later) + sizes["batches"] + sizes["feature cache"]

    def describe(self):
        """One line: sizes, passes, RAM."""
        sizes = ", ".join(f"{name} {_bytes(size)}" for name, size in self.sizes.items())
        runs = "the features are kept and computed once"
        if not self.is_cached:
            features = _bytes(4 * self.num_examples * self.num_features)
            runs = f"the features would take {features}, more than {_bytes(self.cache_bytes)}, so each pass computes them"
        return (
            f"k-means of {self.num_examples:,} examples × {self.num_features:,} features into {self.num_centroids} "
            f"centroids in {self.passes} passes; {runs}; RAM: {sizes}; at most {_bytes(self.peak_bytes)} at once, "
            "without the teacher"
        )

    def describe_time(self, examples_per_second):
        """One line: the time needed at the speed of the first pass."""
        a_pass = self.num_examples / examples_per_second
        runs = 1 if self.is_cached else self.passes
        return (
            f"at {examples_per_second:.4g} examples/s a pass takes about {duration(a_pass)}, all {self.passes} about "
            f"{duration(runs * a_pass)}, and the clustering of the projections comes on top"
        )


def _bytes(size):
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
