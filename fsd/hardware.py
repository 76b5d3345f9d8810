"""The device a run uses, its precision, its compilation, and what memory is left."""

import os
import re
from pathlib import Path

import torch

from fsd.files import InputError

LENGTH_BUCKETS = (0.125, 0.25, 0.5, 0.75, 1)  # of the full length: what compiled passes run at; each costs a compilation


def pick_device(no_cuda=False):
    """The GPU if there is one and ``no_cuda`` is not given, otherwise the CPU; of several processes each has its own GPU.

    Raises:
        InputError: more processes on this machine than it has GPUs.
    """
    if no_cuda or not torch.cuda.is_available():
        return torch.device("cpu")
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return torch.device("cuda")
    number, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= gpus:
        raise InputError(f"no GPU for process {number} of this machine, it has {gpus}; lower --nproc_per_node or give --no_cuda")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def describe_device(device):
    """The device by name, with what a run's numbers depend on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"
    return f"CPU, {torch.get_num_threads()} threads"


def half_precision(args):
    """The dtype that the models' products run in: bfloat16 for ``--bf16``, float16 for ``--fp16``, None for float32."""
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None


def autocast(device, precision):
    """The context for the models' forward passes; nothing is cast where ``precision`` is None."""
    return torch.autocast(device.type, precision, enabled=precision is not None)


def available_memory():
    """Bytes of main memory that this process can still take: the machine's, or less where a container has less."""
    found = [int(re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()) != "max":
        found.append(int(most) - int(used.read_text()))
    return max(min(found), 0)


def compiled(function):
    """``torch.compile`` of a function of a model and a batch, specialised to each shape that it meets."""
    torch._dynamo.config.recompile_limit = 4 * len(LENGTH_BUCKETS)  # teacher and student, with room; beyond it, no compilation
    return torch.compile(function, dynamic=False)
