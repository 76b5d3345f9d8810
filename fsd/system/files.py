"""Writing files completely or not at all. Imports nothing heavy, so that argument errors appear at once."""

import glob
import json
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from fsd.system.errors import InputError

TEMPORARY = ".fsd-tmp"  # ends the names of our temporary files and folders, and so of no others
ABANDONED = 24 * 3600  # seconds without a write, after which no program uses a temporary file any more


@contextmanager
def written_whole(path, folder=False):
    """Yield a temporary file beside ``path`` that replaces ``path`` when the block ends without an error.

    The temporary file is flushed to disk and renamed, so a reader sees the old file or the new one, never a part. On an
    error it is removed and ``path`` stays unchanged. An ``OSError`` becomes an :class:`InputError`. Temporary files of
    killed programs are removed once they are a day old.

    Args:
        folder: yield a folder instead; ``path`` must be missing or an empty folder.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
            with suppress(FileNotFoundError):  # another program has put it in place
                if time.time() - left.stat().st_mtime > ABANDONED:
                    _remove(left)
        names = {"dir": path.parent, "prefix": f".{path.name}.", "suffix": TEMPORARY}
        if folder:
            temporary = Path(tempfile.mkdtemp(**names))
        else:
            handle, name = tempfile.mkstemp(**names)
            os.close(handle)
            temporary = Path(name)
        yield temporary
        put_in_place(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") from error
    finally:
        if temporary is not None:
            _remove(temporary)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def put_in_place(temporary, path):
    """Flush a file, or a folder of files, to disk and rename it to ``path``, on the same disk.

    Temporary files are private, and so are those of safetensors. The result has the permissions of any new file.
    """
    mask = os.umask(0)
    os.umask(mask)
    for written in (temporary, *temporary.rglob("*")):
        written.chmod((0o777 if written.is_dir() else 0o666) & ~mask)
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
    """Remove a folder. If interrupted, the folder is still complete or already gone."""
    if path.is_symlink():  # what it leads to stays
        path.unlink()
        return
    doomed = path.with_name(f".{path.name}.removed{TEMPORARY}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed)


def is_temporary(path):
    """Whether a path has the name of a temporary file or folder."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY)


def remove_temporaries(folder):
    """Remove temporary files of killed programs from a folder that no other program writes into."""
    for path in list(folder.glob(f".*{TEMPORARY}")):
        _remove(path)


def write_text(path, text):
    """Write ``text`` as UTF-8, completely or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write ``value`` as indented JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path):
    """The object in the JSON file ``path``; raises an :class:`InputError` if it cannot be read."""
    if not Path(path).is_file():  # reading a FIFO would wait forever
        raise InputError(f"{path}: no such file; restore it")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path} as JSON: {error}; restore it") from error


def check_ours(path, mark, at_start=False):
    """Raise an ``InputError`` if a file is there that lacks our mark, anywhere or at its start: it is another program's."""
    is_ours = begins_with(path, mark) if at_start else path.is_file() and mark.encode() in path.read_bytes()
    if os.path.lexists(path) and not is_ours:
        raise InputError(f"{path} is not of this program; move it away, or name another --output_dir")


def begins_with(path, line):
    """Whether a regular file is there that begins with this text."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(line.encode())) == line.encode()


def check_folder(path, what):
    """Raise an ``InputError``, starting with ``what``, if a folder cannot be made or written into; changes nothing."""
    path = Path(os.path.abspath(path))
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise InputError(f"{what}: {there} is not a folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{what}: {there} cannot be written to; name another folder")
