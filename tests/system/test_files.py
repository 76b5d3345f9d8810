"""Files appear whole, with the permissions of any new file, and what killed programs left goes."""

import os
import stat
import time

import torch
from safetensors.torch import save_file

from fsd.system.files import ABANDONED, written_whole


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_or_folder_has_the_permissions_of_any_new_one(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/file").write_text("x")
    with written_whole(tmp_path / "one.safetensors") as temporary:
        save_file({"a": torch.zeros(2)}, temporary)
    with written_whole(tmp_path / "folder", folder=True) as temporary:
        save_file({"a": torch.zeros(2)}, temporary / "a.safetensors")
    usual = mode(tmp_path / "plain/file")
    assert mode(tmp_path / "one.safetensors") == mode(tmp_path / "folder/a.safetensors") == usual
    assert mode(tmp_path / "folder") == mode(tmp_path / "plain")


def test_what_a_killed_program_left_goes_after_a_day_and_files_of_others_stay(tmp_path):
    names = [".a.txt.old.fsd-tmp", ".a.txt.new.fsd-tmp", ".a.txt.backup.tmp", ".b.txt.old.fsd-tmp"]
    for name in names:
        (tmp_path / name).write_text("x")
        if "new" not in name:
            os.utime(tmp_path / name, (0, time.time() - 2 * ABANDONED))
    (tmp_path / ".a.txt.gone.fsd-tmp").symlink_to("put-in-place-by-another-program")
    with written_whole(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", ".a.txt.gone.fsd-tmp", *names[1:]}
