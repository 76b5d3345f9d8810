"""The device a run uses, its precision, and what memory is left."""

import re
from pathlib import Path

import torch


def pick_device(no_cuda=False):
    """The GPU if there is one and ``no_cuda`` is not given, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not no_cuda else "cpu")


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
