"""Locks: one at a time, and disks that have none."""

import errno
import fcntl
import os

import pytest

from fsd.system.errors import exit_on_input_error
from fsd.system.locks import exclusive_lock


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_second_lock_is_refused_or_waits(tmp_path, kind):
    path = tmp_path if kind == "folder" else tmp_path / "lock"
    with exclusive_lock(path), pytest.raises(BlockingIOError), exclusive_lock(path, wait=False):
        pass
    with exclusive_lock(path, wait=False):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_on_a_disk_without_locks_the_run_goes_on_with_one_warning(tmp_path, monkeypatch, caplog, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with exclusive_lock(tmp_path / "results.csv.lock", wait=False):
        went_on = True
    assert went_on and len(caplog.messages) == 1 and "results.csv.lock cannot be locked" in caplog.messages[0]


def test_other_errors_are_not_swallowed(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output"), exclusive_lock(tmp_path):
        pass


def test_an_error_without_a_file_names_the_working_directory(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit, match="2"):
        exit_on_input_error(lambda: os.getcwd())
    monkeypatch.chdir(tmp_path)
    assert "the working directory, which has been removed: No such file" in capsys.readouterr().err
