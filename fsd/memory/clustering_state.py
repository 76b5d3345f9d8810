"""What one pass of the streaming k-means hands to the next, what it reports, and what all of them give."""

import json
from dataclasses import asdict, dataclass

from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from fsd.system.errors import InputError
from fsd.system.files import written_whole


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
