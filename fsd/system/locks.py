"""Locks between runs that share a folder or a file."""

import fcntl
import os
from contextlib import contextmanager


@contextmanager
def exclusive_lock(path, wait=True, on_wait=None):
    """Lock a file or folder while the block runs. A missing file is created.

    Args:
        wait: wait until the lock is free; if false, raise ``BlockingIOError`` when another process has it.
        on_wait: called without arguments before waiting.
    """
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            if on_wait:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
