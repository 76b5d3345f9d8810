"""Run a training command and check whether its use of RAM or GPU memory grows with the steps.

    python tests/stress/watch_memory.py run_glue_all.py --max_steps 2000 --logging_steps 100 …

It reads the process's RAM and the GPU allocator's memory at each logging step. At the end it compares the last step with
step 200 (or the next logging step). Exit status 1 if either grew by more than 2 % and more than 50 MB.
"""

import os
import runpy
import sys
from pathlib import Path

from fsd.system.errors import InputError, exit_on_input_error

FIRST_STEP = 200  # by then, caches, pools and optimizer states are filled
SHARE, BYTES = 0.02, 50e6


def main():
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__)
        return
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        raise InputError("name a script of this project, and its flags")

    from fsd.training.loss_log import LossLog

    readings, write = {}, LossLog.write

    def write_and_read(log, step, *others):
        write(log, step, *others)
        readings[step] = memory_in_use()

    LossLog.write = write_and_read
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")

    compared = [step for step in readings if step >= FIRST_STEP]
    if len(compared) < 2:
        raise InputError(f"fewer than two logging steps from step {FIRST_STEP} on; raise --max_steps")
    grown = False
    for kind, before in readings[compared[0]].items():
        values = [readings[step][kind] for step in compared]
        print(f"{kind}: {before / 1e6:.1f} MB after {compared[0]} steps, {values[-1] / 1e6:.1f} MB after {compared[-1]}, "
              f"at most {max(values) / 1e6:.1f} MB")
        grown |= values[-1] - before > max(SHARE * before, BYTES)
    sys.exit(int(grown))


def memory_in_use():
    """Bytes of RAM and, with a GPU, of GPU memory."""
    import torch

    pages = int(Path("/proc/self/statm").read_text().split()[1])
    used = {"RAM": pages * os.sysconf("SC_PAGE_SIZE")}
    if torch.cuda.is_initialized():
        used |= {"GPU, allocated": torch.cuda.memory_allocated(), "GPU, reserved": torch.cuda.memory_reserved()}
    return used


if __name__ == "__main__":
    exit_on_input_error(main)
