"""Timing blocks of steps in turns, so that a slow phase of the machine affects all sides, and printing the results."""

import ctypes
import gc
import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fsd.system.errors import InputError, one_line
from fsd.system.logs import progress_bar

BLOCK_SECONDS, BLOCK_STEPS = 0.5, (10, 50)  # on a GPU: the length of a block, and the fewest and most steps in it


@dataclass
class Contender:
    """A method with options, and the seconds a step of each of its blocks."""

    method: str
    options: str
    steps: object  # a function that trains for that many steps, after a first one, and returns their seconds
    flops: float = 0.0  # of the models' matrix products, per step
    precision: str = "float32"
    seconds: list = field(default_factory=list)
    bare_seconds: list = field(default_factory=list)
    peak_bytes: int = 0
    failed: bool = False


def measure_blocks(bare, contenders, steps, pairs, device):
    """Time blocks of ``steps`` steps: two contenders, the minimal loop, two contenders, and so on.

    Without ``steps``, the minimal loop's speed decides how many are a block. A contender that fails, as for want of GPU
    memory, is told in one line and left out.

    Returns:
        The contenders that were measured, the minimal loop first, and the steps of a block. None are left if that loop fails.
    """
    everyone = [bare, *contenders]
    for contender in everyone:
        run_block(contender, (steps or max(BLOCK_STEPS)) if "--compile" in contender.options else 2, device)
    if not steps and not bare.failed:
        run_block(bare, min(BLOCK_STEPS), device)
        steps = round(min(max(BLOCK_SECONDS / bare.seconds[-1], min(BLOCK_STEPS)), max(BLOCK_STEPS)))
    for contender in everyone:
        contender.seconds.clear()  # of the warm-up
    with progress_bar(total=pairs, desc=f"{len(contenders)} contenders, rounds") as bar:
        for turn in range(0 if bare.failed else pairs):
            order = contenders if turn % 2 else contenders[::-1]
            for start in range(0, len(order), 4):
                four = order[start : start + 4]
                for contender in (*four[:2], bare, *four[2:]):
                    run_block(contender, steps, device)
                for contender in four:
                    contender.bare_seconds.append(bare.seconds[-1])
            bar.update()
    return [] if bare.failed else [contender for contender in everyone if not contender.failed], steps


def run_block(contender, steps, device):
    """Time a block of a contender, unless it has failed before."""
    if contender.failed:
        return
    try:
        with PeakMemory(device) as peak:
            contender.seconds.append(contender.steps(steps) / steps)
        contender.peak_bytes = max(contender.peak_bytes, peak.bytes)
    except (RuntimeError, InputError) as error:
        contender.failed = True
        reason = "out of memory" if isinstance(error, torch.OutOfMemoryError) else one_line(str(error))[:300]
        print(f"{contender.method} {contender.options}: left out: {reason}", flush=True)
    if contender.failed:  # not above, where the error still holds the tensors
        free_memory(device)


def free_memory(device):
    """Give back the memory of all that nothing uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronize(device):
    """Wait for the GPU; does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """Context that measures, in ``bytes``, the peak RAM (of the GPU or the process) above the level at its start."""

    def __init__(self, device):
        self.device, self.bytes = device, 0

    def __enter__(self):
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            ctypes.CDLL(None).malloc_trim(0)  # returns RAM that earlier blocks freed
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak
            self.before = self._status("VmRSS")
        return self

    def __exit__(self, *error):
        on_gpu = self.device.type == "cuda"
        self.bytes = (torch.cuda.max_memory_allocated(self.device) if on_gpu else self._status("VmHWM")) - self.before

    @staticmethod
    def _status(name):
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024


def ceiling(device, precision):
    """Floating-point operations per second of a large matrix product, best of eight."""
    n, best = 8192 if device.type == "cuda" else 3072, math.inf
    x, y = (torch.randn(n, n, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    for _ in range(8):
        synchronize(device)
        start = time.perf_counter()
        x @ y
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def seconds_of(function, device):
    """(seconds, result) of calling ``function``."""
    synchronize(device)
    start = time.perf_counter()
    result = function()
    synchronize(device)
    return time.perf_counter() - start, result
