"""Timing blocks of steps in turns, so that a slow phase of the machine affects all sides, and printing the results."""

import ctypes
import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm


@dataclass
class Contender:
    """A method with options, and the seconds of each of its blocks."""

    method: str
    options: str
    steps: object  # a function that trains for that many steps
    flops: float = 0.0  # of the models' matrix products, per step
    precision: str = "float32"
    seconds: list = field(default_factory=list)
    bare_seconds: list = field(default_factory=list)
    peak_bytes: int = 0


def measure_blocks(bare, contenders, steps, pairs, device):
    """Time blocks of ``steps`` steps: two contenders, the minimal loop, two contenders, and so on."""
    for contender in (bare, *contenders):
        timed(contender, steps if "--compile" in contender.options else 2, device)
    for turn in tqdm(range(pairs), desc=f"{len(contenders)} contenders, rounds"):
        order = contenders if turn % 2 else contenders[::-1]
        for start in range(0, len(order), 4):
            two, two_more = order[start : start + 2], order[start + 2 : start + 4]
            for contender in two:
                contender.seconds.append(timed(contender, steps, device) / steps)
            bare.seconds.append(timed(bare, steps, device) / steps)
            for contender in two_more:
                contender.seconds.append(timed(contender, steps, device) / steps)
            for contender in (*two, *two_more):
                contender.bare_seconds.append(bare.seconds[-1])


def timed(contender, steps, device):
    """Seconds of a block; records the contender's highest RAM use above the level before a block."""
    with PeakMemory(device) as peak:
        synchronize(device)
        start = time.perf_counter()
        contender.steps(steps)
        synchronize(device)
        seconds = time.perf_counter() - start
    contender.peak_bytes = max(contender.peak_bytes, peak.bytes)
    return seconds


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


def print_table(header, rows):
    """Print a Markdown table."""
    for line in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(line)} |", flush=True)


def seconds_of(function, device):
    """(seconds, result) of calling ``function``."""
    synchronize(device)
    start = time.perf_counter()
    result = function()
    synchronize(device)
    return time.perf_counter() - start, result
