"""The cache of the teacher's outputs: what it returns, and what happens to damaged files and without space."""

import io
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from short_examples import short_examples

from fsd.models.forward import forward
from fsd.models.hub import find_model
from fsd.models.loading import freeze, load_pretrained
from fsd.system.errors import InputError
from fsd.system.hashes import model_hash
from fsd.training import teacher_cache
from fsd.training.teacher_cache import TeacherCache


@pytest.fixture
def dataset():
    return short_examples()


@pytest.fixture
def teacher(rte_teacher):
    return freeze(load_pretrained(find_model(rte_teacher, ""))[0])


@pytest.mark.parametrize("mask_padding", [False, True])
def test_an_entry_has_the_same_bits_whichever_run_made_it(dataset, teacher, tmp_path, mask_padding):
    def files(place, *runs):
        for layers in runs:
            cache = TeacherCache(tmp_path / place, teacher, model_hash(teacher), dataset, layers, mask_padding)
            cache.fill()
        return {path.name: path.read_bytes() for path in cache.folder.glob("*.npy")}

    together = files("together", [1, 3])
    assert len(together) == 3
    assert files("apart", [], [3], [1]) == together == files("other order", [1], [3, 1])


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("place", ["ram", "folder"])
def test_the_cache_returns_what_the_teacher_does(dataset, teacher, tmp_path, place, mask_padding):
    cache = TeacherCache("ram" if place == "ram" else tmp_path, teacher, model_hash(teacher), dataset, [3, 1], mask_padding)
    cache.fill()
    indices = torch.tensor([36, 0, 7, 21])
    batch = dataset.batch(indices, cut_to_longest=mask_padding)
    logits, hidden = cache.batch(indices, batch["input_ids"].shape[1], [1, 3])
    with torch.no_grad():
        expected_logits, expected_hidden = forward(teacher, batch, [1, 3])
    half = {"rtol": 2**-10, "atol": 1e-5}  # float16 keeps 11 bits; the teacher's batches differ, hence the little more
    torch.testing.assert_close(logits.float(), expected_logits, **half)
    counted = batch["attention_mask"].bool() if mask_padding else torch.ones_like(batch["attention_mask"]).bool()
    for layer in (1, 3):
        assert hidden[layer].shape == expected_hidden[layer].shape and hidden[layer].dtype == torch.float16
        torch.testing.assert_close(hidden[layer][counted].float(), expected_hidden[layer][counted], **half)
        assert not hidden[layer][~counted].any()


def archive():
    """The bytes of a NumPy archive."""
    file = io.BytesIO()
    np.savez(file, np.zeros(3))
    return file.getvalue()


@pytest.fixture
def filled(dataset, teacher, tmp_path):
    """Call ``filled()``: the cache in a folder, filled, and a copy of a few of its hidden states."""

    def fill():
        cache = TeacherCache(tmp_path, teacher, model_hash(teacher), dataset, [3], True)
        cache.fill()
        return cache, cache.batch(torch.arange(5), 12, [3])[1][3].clone()

    return fill


def test_a_damaged_cache_is_made_again_and_no_pickle_is_read(filled, tmp_path):
    cache, expected = filled()
    hidden = cache.folder / "hidden_states_3.npy"
    content = hidden.read_bytes()
    # The last two leave NumPy's header unfinished Python, and a zip archive where an array is expected.
    for damage in (b"", content[:-100], b"no array", content[:50] + b"{" + content[51:], archive()):
        hidden.write_bytes(damage)
        assert torch.equal(filled()[1], expected)
    np.save(hidden, np.array([print]), allow_pickle=True)
    assert torch.equal(filled()[1], expected)
    for damage in ("{}", "[]", "{", '{"sha256": 3}'):
        (cache.folder / "cache.json").write_text(damage)
        assert torch.equal(filled()[1], expected)
    assert not list(tmp_path.rglob("*.partial"))


def test_flipped_bytes_are_found_and_only_their_entry_is_made_again(filled, caplog):
    cache, expected = filled()
    logits, hidden = cache.folder / "logits.npy", cache.folder / "hidden_states_3.npy"
    before = logits.stat().st_mtime_ns
    content = hidden.read_bytes()
    for damage in (b"\x00\x3c", np.float16("nan").tobytes()):
        hidden.write_bytes(content[:-200] + damage * 100)
        caplog.clear()
        assert torch.equal(filled()[1], expected) and hidden.read_bytes() == content
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1 and "hidden_states_3" in warnings[0] and "logits" not in warnings[0]
    assert logits.stat().st_mtime_ns == before
    caplog.clear()
    assert torch.equal(filled()[1], expected) and not caplog.records


def test_outputs_beyond_half_precision_are_told(dataset, teacher):
    with torch.no_grad():
        teacher.bert.encoder.layer[2].output.LayerNorm.weight.mul_(1e6)
    with pytest.raises(InputError, match="not finite in half precision; leave --cache_teacher out"):
        TeacherCache("ram", teacher, "", dataset, [3], True).fill()


@pytest.mark.parametrize("name", ["hidden_states_3.npy", "cache.json"])
def test_a_pipe_in_place_of_a_file_is_replaced_and_a_folder_is_refused(filled, name):
    cache, expected = filled()
    (cache.folder / name).unlink()
    os.mkfifo(cache.folder / name)
    assert torch.equal(filled()[1], expected) and (cache.folder / name).is_file()
    (cache.folder / name).unlink()
    (cache.folder / name).mkdir()
    (cache.folder / name / "mine").write_text("mine")
    with pytest.raises(InputError, match="is a folder; move it away"):
        filled()
    assert (cache.folder / name / "mine").read_text() == "mine"


def test_what_a_killed_run_left_is_not_read(dataset, teacher, tmp_path, monkeypatch):
    cache = TeacherCache(tmp_path, teacher, model_hash(teacher), dataset, [3], True)
    monkeypatch.setattr(teacher_cache.TeacherCache, "_compute", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cache.fill()
    monkeypatch.undo()
    assert TeacherCache(tmp_path, teacher, model_hash(teacher), dataset, [3], True).missing == ["logits", "hidden_states_3"]


def test_outputs_that_do_not_fit_are_refused_beforehand(dataset, teacher, tmp_path, monkeypatch):
    size = TeacherCache("ram", teacher, model_hash(teacher), dataset, [3], True).size
    assert size == 2 * (37 * 2 + int(dataset.lengths.sum()) * 16)
    monkeypatch.setattr(teacher_cache, "free_ram", lambda: size - 1)
    with pytest.raises(InputError, match="GB of RAM"):
        TeacherCache("ram", teacher, model_hash(teacher), dataset, [3], True)
    monkeypatch.setattr(teacher_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=size - 1))
    with pytest.raises(InputError, match="GB of disk space"):
        TeacherCache(tmp_path, teacher, model_hash(teacher), dataset, [3], True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot use it as a folder"):
        TeacherCache(tmp_path / "file", teacher, model_hash(teacher), dataset, [3], True)
