"""What torchrun tells a process through its environment. Imports nothing heavy, so that an argument error is told at once."""

import os


def started_alone():
    """Whether this process is the only one of its run."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def is_main_process():
    """Whether this process is alone or is rank 0: it alone writes and speaks."""
    return started_alone() or os.environ.get("RANK", "0") == "0"
