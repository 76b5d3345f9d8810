"""Two processes of one thread beside one process of two threads. This file is also the program of these processes."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import astuple, replace
from pathlib import Path

import torch

from fsd.system.errors import InputError
from fsd.system.processes import process_group, rank, world_size

from benchmarks.results import print_rows
from benchmarks.timing import quartiles
from benchmarks.training import Bench, Size

SCRIPTS = Path(__file__).resolve().parent.parent


def measure_processes(size, pairs, steps):
    """Yield rows: FSD_ILG with the same global batch, on CPUs. Each block is a run of its own."""
    one, two = [], []
    for turn in range(pairs):
        for seconds, processes in ((one, 1), (two, 2))[:: 1 if turn % 2 else -1]:
            seconds.append(block_seconds(size, processes, steps))
    rows = []
    for seconds, name in ((one, "1 process, 2 threads"), (two, "2 processes, 1 thread")):
        low, middle, high = quartiles([s / o for s, o in zip(seconds, one, strict=True)])
        rows.append({"size": size.describe(), "method": "FSD_ILG", "options": name, "ms": 1000 * statistics.median(seconds),
                     "ratio": middle, "ratio_quartiles": [low, high], "beside": "1 process, 2 threads"})
    print(f"\n**{size.describe()}**; {pairs} pairs of {steps} steps\n")
    print_rows(rows)
    yield rows


def block_seconds(size, processes, steps):
    """Seconds a step of a run of ``processes`` processes with two threads in all."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    paths = os.pathsep.join([str(SCRIPTS.parent), str(SCRIPTS)])
    ended = subprocess.run(
        [sys.executable, *launcher, __file__, json.dumps(astuple(size)), str(steps)], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(2 // processes), "PYTHONPATH": paths},
    )
    if ended.returncode:
        raise InputError(f"the run of {processes} processes failed: {ended.stderr[-500:]}")
    return float(ended.stdout.split()[-1])


def main():
    """Time a block in this process, or in all that torchrun started, and print its seconds a step."""
    size, steps, device = Size(*json.loads(sys.argv[1])), int(sys.argv[2]), torch.device("cpu")
    with process_group(device), tempfile.TemporaryDirectory() as folder:
        size = replace(size, batch_size=size.batch_size // world_size())
        contender = Bench(size, device, steps, Path(folder)).ours("FSD_ILG")
        contender.steps(1)
        seconds = contender.steps(steps) / steps
        if rank() == 0:
            print(seconds)


if __name__ == "__main__":
    main()
