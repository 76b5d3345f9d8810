"""The state between two passes of the streaming k-means, the report of a pass, and the final result."""

import json
from dataclasses import asdict, dataclass

from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from fsd.system.errors import InputError
from fsd.system.files import written_whole
from fsd.system.hashes import tensor_hash


@dataclass(frozen=True)
class PassReport:
    """The report of one pass.

    ``inertia`` is the sum of squared distances to the means of the pass's assignment; pass 1 estimates it from the
    projections. ``refilled`` counts the empty clusters that got an example. ``shift`` is the root mean square distance
    that the centroids moved, or None before pass 3.
    """

    number: int
    passes: int
    inertia: float
    refilled: int
    shift: float | None
    seconds: float
    examples_per_second: float

    def describe(self):
        """The report as one line."""
        where = " (of the projections)" if self.number == 1 else ""
        shift = "" if self.shift is None else f", centroids moved {self.shift:.4g}"
        return (
            f"pass {self.number}/{self.passes}: inertia {self.inertia:.6g}{where}, {self.refilled} empty clusters "
            f"refilled{shift}, {self.seconds:.1f} s, {self.examples_per_second:.1f} examples/s"
        )


@dataclass(frozen=True)
class Clustering:
    """The result, on the CPU: ``centroids`` [K, P] (float32) are the means of the clusters in ``assignment`` [N] (int64).

    ``assignment`` maps each example to the nearest centroid of the pass before, or to an empty cluster that it refills.
    ``counts`` [K] (int64, each at least 1) and ``inertia`` belong to it. ``history`` has one :class:`PassReport` per pass.
    """

    centroids: Tensor
    counts: Tensor
    assignment: Tensor
    inertia: float
    history: list

    @property
    def passes(self):
        """The number of passes that ran."""
        return len(self.history)


@dataclass
class State:
    """The state between two passes, on the device.

    ``offset`` [P] is the mean of all examples. ``assignment`` is [N]. ``counts`` [K] and ``centroids`` [K, P] (minus the
    offset) are None after pass 1.
    """

    offset: Tensor
    assignment: Tensor
    inertia: float
    counts: Tensor | None = None
    centroids: Tensor | None = None
    refilled: int = 0
    shift: float | None = None


def save_state(path, state, history):
    """Write the state after a pass and all reports so far. The file appears only when it is complete."""
    values = vars(state)
    tensors = {name: value.cpu().contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    plain = {name: value for name, value in values.items() if name not in tensors}
    facts = {"state": plain, "history": [asdict(report) for report in history], "sha256": tensor_hash(tensors)}
    with written_whole(path) as temporary:
        temporary.write_bytes(safetensors.save(tensors, {name: json.dumps(value) for name, value in facts.items()}))


def load_state(path, device):
    """Read a file of :func:`save_state`: (:class:`State`, history).

    Raises:
        InputError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            facts = {name: json.loads(value) for name, value in file.metadata().items()}
        if facts["sha256"] != tensor_hash(tensors):
            raise ValueError("its values have changed since it was written")
        state = State(**facts["state"] | {name: value.to(device) for name, value in tensors.items()})
        return state, [PassReport(**report) for report in facts["history"]]
    except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: cannot resume from this file: {error}; remove it to start again") from error
