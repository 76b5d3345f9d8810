"""Models from folders and from the hub: weights in parts, older weights, and what is downloaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from fsd.glue.origin import DataOrigin
from fsd.models.hub import find_model
from fsd.models.loading import load_pretrained
from fsd.models.model_files import make_config
from fsd.records.output_folder import trained_on
from fsd.system.errors import InputError
from fsd.system.hashes import model_hash


@pytest.fixture
def copied_teacher(rte_teacher, tmp_path):
    """A copy of the teacher, to be changed."""
    return shutil.copytree(rte_teacher, tmp_path / "teacher")


@pytest.mark.parametrize("place", [
    "../elsewhere/model.safetensors", "{elsewhere}/model.safetensors", "inside/../../elsewhere/model.safetensors",
])
def test_an_index_names_no_weights_outside_its_folder(place, copied_teacher, tmp_path):
    elsewhere = shutil.copytree(copied_teacher, tmp_path / "elsewhere")
    place = place.format(elsewhere=elsewhere)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(copied_teacher / "model.safetensors"), place)}
    (copied_teacher / "model.safetensors").unlink()
    (copied_teacher / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="not a safetensors file beside it"):
        load_pretrained(find_model(copied_teacher, "--model_name_or_path"))


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("names", [("weight", "bias"), ("gamma", "beta")])
def test_pickled_tensors_are_read_and_nothing_is_executed(copied_teacher, new_format, names):
    """The older models of the hub have pytorch_model.bin alone, in the older format and with older names in it."""
    safe, _ = load_pretrained(find_model(copied_teacher, ""))
    state = load_file(copied_teacher / "model.safetensors")
    older = dict(zip(("LayerNorm.weight", "LayerNorm.bias"), (f"LayerNorm.{name}" for name in names), strict=True))
    state = {next((k.replace(now, old) for now, old in older.items() if k.endswith(now)), k): v for k, v in state.items()}
    torch.save(state, copied_teacher / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    (copied_teacher / "model.safetensors").unlink()
    model, missing = load_pretrained(find_model(copied_teacher, ""))
    assert not missing and model_hash(model) == model_hash(safe)


def test_weights_in_parts_are_loaded(copied_teacher):
    model, missing = load_pretrained(find_model(copied_teacher, ""))
    (copied_teacher / "model.safetensors").unlink()
    model.save_pretrained(copied_teacher, max_shard_size="40KB")
    assert (copied_teacher / "model.safetensors.index.json").exists() and not missing
    assert model_hash(load_pretrained(find_model(copied_teacher, ""))[0]) == model_hash(model)


def test_a_config_with_a_whole_number_for_a_fraction():
    config = make_config({"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "initializer_range": 0}, "x")
    assert config.initializer_range == 0.0


def test_a_name_of_the_hub_is_its_downloaded_folder_or_told_missing(copied_teacher, tmp_path):
    repository = tmp_path / "hub/models--some--bert"
    shutil.copytree(copied_teacher, repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    source = find_model("some/bert", "--model_name_or_path", tmp_path / "hub")
    assert source.folder == repository / "snapshots/abc" and str(source) == "--model_name_or_path some/bert"
    with pytest.raises(InputError, match="some/other: there is no such folder, and the hub gives no such model \\(.+\\); check"):
        find_model("some/other", "--model_name_or_path", tmp_path / "hub")


@pytest.mark.parametrize(("held", "asked"), [("model.safetensors", 1), ("pytorch_model.bin", 2)])
def test_pickled_weights_are_downloaded_only_where_there_are_no_others(held, asked, tmp_path, monkeypatch):
    calls = []

    def snapshot_download(name, cache_dir, allow_patterns):
        calls.append(allow_patterns)
        if any(held == pattern for pattern in allow_patterns):
            (tmp_path / held).touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for _ in range(3):  # and the hub is asked once for a name
        assert find_model(f"some/model-with-{held}", "--model_name_or_path").folder == tmp_path
    assert (tmp_path / held).exists() and len(calls) == asked


def test_a_name_of_the_hub_tells_what_its_model_was_trained_on(copied_teacher, tmp_path, monkeypatch):
    (copied_teacher / "training_args.json").write_text(json.dumps({"trained_on": {"rows": "r", "file": "f", "split_of": "s"}}))

    def snapshot_download(name, cache_dir, allow_patterns):
        for path in copied_teacher.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, tmp_path / "hub")
        return str(tmp_path / "hub")

    (tmp_path / "hub").mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    source = find_model("some/model-with-its-record", "--model_name_or_path")
    assert trained_on(source.folder) == DataOrigin("r", "f", "s")
