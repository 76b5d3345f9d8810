"""What torchrun's environment variables say. Imports nothing heavy, so that argument errors appear at once."""

import os


def started_alone():
    """Whether this process is the only one of its run."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


def is_main_process():
    """Whether this process is the only one or rank 0. Only the main process writes files and logs."""
    return started_alone() or os.environ.get("RANK", "0") == "0"
