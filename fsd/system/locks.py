"""Locks between runs that share a folder or a file."""

import errno
import fcntl
import logging
import os
from contextlib import contextmanager

logger = logging.getLogger(__name__)

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # what disks without locks answer, many network disks


@contextmanager
def exclusive_lock(path, wait=True, on_wait=None):
    """Lock a file or folder while the block runs, and yield its descriptor. A missing file is created.

    On a disk without locks the block runs all the same, after one warning.

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
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logger.warning("%s cannot be locked (%s): let no other run write there meanwhile", path, error.strerror)
        yield descriptor
    finally:
        os.close(descriptor)
