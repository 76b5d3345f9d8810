"""Device, precision, compilation and free RAM."""

import os
import re
import timeit
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import functional

from fsd.system.errors import InputError
from fsd.system.launcher import started_alone
from fsd.system.processes import check_environment

MEMINFO = Path("/proc/meminfo")  # Linux alone has it
CONTAINER = Path("/sys/fs/cgroup")  # of a container, on Linux
WORTH_A_WARNING = 2  # times as long as in float32


def pick_device(no_cuda=False, cuda_graphs=False):
    """The GPU if there is one and ``no_cuda`` is false, otherwise the CPU. Each process has its own GPU.

    Raises:
        InputError: this machine has fewer GPUs than processes, or none for ``cuda_graphs``.
    """
    if no_cuda or not torch.cuda.is_available():
        if cuda_graphs:
            raise InputError("--cuda_graphs needs a GPU, and torch finds none on this machine; leave it out")
        return torch.device("cpu")
    # With a mask, cuDNN's attention has NaN gradients at lengths such as 64 on an H100, from torch 2.11 on (pytorch issue
    # 196678). The other kernels have none.
    torch.backends.cuda.enable_cudnn_sdp(False)
    if started_alone():
        return torch.device("cuda")
    check_environment()
    number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= gpus:
        raise InputError(f"no GPU for process {number} of this machine, it has {gpus}; lower --nproc_per_node or give --no_cuda")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def describe_device(device):
    """The device's name, with its CUDA version or number of threads."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"
    return f"CPU, {torch.get_num_threads()} threads"


def autocast(device, precision):
    """The context for the models' forward passes; it does nothing if ``precision`` is None."""
    return torch.autocast(device.type, precision, enabled=precision is not None)


def slowdown_on_cpu(device, precision):
    """How many times as long as in float32 a linear layer takes on this CPU, forward and backward, measured in 0.2 s.

    None if that is less than twice as long, if ``precision`` is None, and for a GPU.
    """
    if device.type != "cpu" or precision is None:
        return None

    def seconds(dtype):
        states = torch.ones(256, 384, dtype=dtype, requires_grad=True)
        weight = torch.ones(384, 384, dtype=dtype, requires_grad=True)
        gradient = torch.ones(256, 384, dtype=dtype)
        return min(timeit.repeat(
            lambda: torch.autograd.grad(functional.linear(states, weight), (states, weight), gradient), number=1, repeat=4
        ))

    times = seconds(precision) / seconds(torch.float32)
    return times if times >= WORTH_A_WARNING else None


@contextmanager
def side_stream(device):
    """Run the block on a GPU's stream of its own, which CUDA graphs need; does nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)


def free_ram():
    """Bytes of free RAM on the machine, or in the container if it has less; None if the system does not tell, as on macOS.

    Files that the system keeps in RAM count as free: they give way.
    """
    if not MEMINFO.is_file():
        return None
    free = int(re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text())[1]) * 1024
    limit, used, parts = (CONTAINER / f"memory.{name}" for name in ("max", "current", "stat"))
    if limit.is_file() and used.is_file() and parts.is_file() and (most := limit.read_text().strip()) != "max":
        of_files = sum(map(int, re.findall(r"^(?:in)?active_file (\d+)", parts.read_text(), re.MULTILINE)))
        free = min(free, int(most) - int(used.read_text()) + of_files)
    return max(free, 0)


def compiled(function, shapes):
    """``torch.compile`` of a function of a model and a batch, once per shape, for at most ``shapes`` shapes."""
    torch._dynamo.config.recompile_limit = shapes  # further shapes run uncompiled
    return torch.compile(function, dynamic=False)
