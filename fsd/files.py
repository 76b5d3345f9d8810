"""What every room needs to be safe with files and people: one-line errors, whole-or-not-at-all writes, hashes.

Imports nothing heavy, so that an argument error can be told at once.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """Something the user handed over is wrong. The message is one line: what, where, and what to do."""


def is_main_process():
    """Whether this process is the only one, or rank 0 of those that torchrun started: it alone writes and speaks."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def exit_on_input_error(main):
    """Run ``main()``; an :class:`InputError` becomes one line on stderr and exit status 2."""
    try:
        main()
    except InputError as error:
        name = Path(sys.argv[0]).name
        if not is_main_process():
            time.sleep(3)  # rank 0 mostly meets the same error, and torchrun then ends this process before it repeats it
            name = f"\n{name}, rank {os.environ['RANK']}"  # not at the end of rank 0's progress bar
        print(f"{name}: error: {error}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def written_whole(path):
    """Yield a temporary path beside ``path``; what was written there takes its place when the block ends well.

    The temporary file is flushed to disk and renamed, so that a reader sees the old file or the new one, never a
    part. On an error it is removed and ``path`` is as it was. An ``OSError`` becomes an :class:`InputError`.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes files private; others may need to read ours
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write ``text`` as UTF-8, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path):
    """The object in the JSON file ``path``; an unreadable or malformed one is an :class:`InputError`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as JSON: {error}") from error


def file_hash(*paths):
    """SHA-256 (hex) over the contents of ``paths``, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
