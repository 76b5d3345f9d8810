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
    """Run ``main()``; what is wrong is one line on stderr and exit status 2, SIGTERM and SIGINT are one and theirs."""
    try:
        with handling_signals(stop_at_once):
            main()
        return
    except Stopped as stopped:
        if is_main_process():
            print(f"{Path(sys.argv[0]).name}: {stopped}", file=sys.stderr)
        sys.exit(stopped.status)
    except InputError as error:
        message = str(error)
    except OSError as error:
        where, what = error.filename or "a file", error.strerror or error
        message = f"{where}: {what}; check the path, its permissions and the space that is left"
    name = Path(sys.argv[0]).name
    if not is_main_process():
        time.sleep(3)  # rank 0 mostly meets the same error, and torchrun then ends this process before it repeats it
        name = f"\n{name}, rank {os.environ['RANK']}"  # not at the end of rank 0's progress bar
    print(f"{name}: error: {one_line(message)}", file=sys.stderr)
    sys.exit(2)


def one_line(text, limit=800):
    """``text`` with line breaks and whatever else a terminal would not show as escapes, the middle of a long one left out."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else f"{text[:limit - 200]} … {text[-200:]}"


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
    """Remove what killed programs left half written in the folder, if it is there; only while no other one writes there."""
    for path in filter(is_temporary, list(folder.glob(".*"))):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def folder_written_whole(folder):
    """Yield a temporary folder that becomes ``folder``, which must be missing or empty, when the block ends well.

    On an error nothing is left of it. An ``OSError`` becomes an :class:`InputError`.
    """
    folder, temporary = Path(folder), None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o777 & ~mask)
        os.replace(temporary, folder)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}; free some space or choose another folder") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path, text):
    """Write ``text`` as UTF-8, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path):
    """The object in the JSON file ``path``; an unreadable or malformed one is an :class:`InputError`."""
    if not Path(path).is_file():  # a FIFO would be waited for
        raise InputError(f"{path}: no such file; restore it")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path} as JSON: {error}; restore it") from error


def check_folder(path, what):
    """Refuse a folder that could not be made or written into, and change nothing; the message begins with ``what``."""
    path = Path(os.path.abspath(path))
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise InputError(f"{what}: {there} is no folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{what}: {there} cannot be written to; name another folder")


def file_hash(*paths):
    """SHA-256 (hex) over the contents of ``paths``, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
