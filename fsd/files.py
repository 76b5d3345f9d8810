"""What every room needs to be safe with files and people: one-line errors, whole-or-not-at-all writes, hashes.

Imports nothing heavy, so that an argument error can be told at once.
"""

import glob
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from fsd.stopping import Stopped, handling_signals, stop_at_once

ABANDONED = 24 * 3600  # seconds without a write after which a temporary file is nobody's


class InputError(Exception):
    """Something the user handed over is wrong. The message is one line: what, where, and what to do."""


def is_main_process():
    """Whether this process is the only one, or rank 0 of those that torchrun started: it alone writes and speaks."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def exit_on_input_error(main):
    """Run ``main()``; an :class:`InputError` becomes one line on stderr and exit status 2, SIGTERM and SIGINT one and theirs."""
    try:
        with handling_signals(stop_at_once):
            main()
    except InputError as error:
        name = Path(sys.argv[0]).name
        if not is_main_process():
            time.sleep(3)  # rank 0 mostly meets the same error, and torchrun then ends this process before it repeats it
            name = f"\n{name}, rank {os.environ['RANK']}"  # not at the end of rank 0's progress bar
        print(f"{name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        if is_main_process():
            print(f"{Path(sys.argv[0]).name}: {stopped}", file=sys.stderr)
        sys.exit(stopped.status)


@contextmanager
def written_whole(path):
    """Yield a temporary path beside ``path``; what was written there takes its place when the block ends well.

    The temporary file is flushed to disk and renamed, so that a reader sees the old file or the new one, never a
    part. On an error it is removed and ``path`` is as it was. An ``OSError`` becomes an :class:`InputError`.
    What a killed program left half written here is removed once it is so old that nobody can still be writing it.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            if time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes files private; others may need to read ours
        put_in_place(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def put_in_place(temporary, path):
    """Flush a file, or a folder of files, to disk and rename it to ``path``, in the same folder or another on its disk."""
    for written in (temporary, *temporary.rglob("*")):
        _flush(written)
    os.replace(temporary, path)
    _flush(path.parent)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(path):
    """Remove a folder such that it is whole under its name or not there, whatever interrupts."""
    doomed = path.with_name(f".{path.name}.removed.tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed)


def is_temporary(path):
    """Whether the name is that of something half written, which a killed program left behind."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def remove_temporaries(folder):
    """Remove what killed programs left half written in the folder; only while no other program writes there."""
    for path in filter(is_temporary, Path(folder).iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


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
