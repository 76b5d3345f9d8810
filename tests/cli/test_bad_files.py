"""Files from anywhere: bytes that hypothesis makes up, code that must not run, paths that must not be followed."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsd.cli.parser import number
from fsd.glue.files import read_file
from fsd.glue.tasks import TASKS
from fsd.memory.teacher_memory import TeacherMemory
from fsd.models.model_files import make_config
from fsd.models.student import new_model
from fsd.system.errors import InputError, one_line

SEEDED = settings(max_examples=60, deadline=None, derandomize=True,
                  suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3), max_leaves=5,
)
CONFIG = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@SEEDED
@given(task=st.sampled_from(TASKS), data=st.data())
def test_any_bytes_are_read_or_refused_by_file_and_line(task, data, tmp_path):
    split = data.draw(st.sampled_from(sorted(task.files)))
    odd = ["0", "1", "5.0", "nan", "entailment", "", "é", "\0", "\r", '"']
    cells = st.sampled_from([*odd, *task.text_columns, task.label_column])
    rows = st.lists(st.lists(cells, max_size=5).map("\t".join), max_size=5).map(lambda lines: "\n".join(lines).encode())
    path = tmp_path / "file.tsv"
    path.write_bytes(data.draw(rows | st.binary(max_size=200)))
    try:
        read = read_file(task, split, path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert len(read.texts_a) > 0


@SEEDED
@given(text=st.text())
def test_an_error_is_one_printable_line(text):
    line = one_line(text)
    assert line.isprintable() and len(line) <= 803
    assert line == text or not text.isprintable() or len(text) > 800


@SEEDED
@given(text=st.text(max_size=30) | st.floats().map(str) | st.integers().map(str), kind=st.sampled_from([int, float]))
def test_a_number_is_within_its_bounds_or_refused(text, kind):
    import argparse

    try:
        value = number(kind, 0)(text)
    except argparse.ArgumentTypeError:
        return
    assert type(value) is kind and 0 <= value <= 3.4e38


@SEEDED
@given(name=st.sampled_from([*CONFIG, "type_vocab_size", "hidden_act", "layer_norm_eps", "id2label", "num_labels"]), value=JSON)
def test_any_config_makes_a_bert_or_is_refused(name, value):
    try:
        config = make_config(CONFIG | {name: value}, "config.json")
    except InputError as error:
        assert "config.json" in str(error)
    else:
        if config.vocab_size * config.hidden_size < 1e6 and config.num_hidden_layers < 5:
            new_model(config, seed=0)


@pytest.mark.parametrize("values, expected", [
    ({"vocab_size": 10**12}, "vocab_size"), ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
    ({"hidden_size": -8}, "hidden_size"), ({"hidden_size": 9}, "multiple"), ({"hidden_size": "8"}, "'hidden_size' expected int"),
    ({"vocab_size": 2**31}, "GB of RAM"), ({"num_labels": 10**12}, "num_labels"),
    ({"auto_map": {"AutoConfig": "evil.Evil"}}, "never run"), ({"quantization_config": {"bits": 8}}, "quantized"),
    ({"transformers_weights": "../x.safetensors"}, "weights other"), ({"is_decoder": True}, "decoder"),
    ({"layer_norm_eps": float("nan")}, "layer_norm_eps"), ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob is nan"),
    ({"hidden_act": "os.system"}, "os.system"),
    ({"id2label": {"0": "a", "2": "b"}}, "id2label"), ({"pad_token_id": 50}, "pad_token_id"),
])
def test_configs_are_refused_before_anything_is_allocated(values, expected):
    with pytest.raises(InputError, match=expected):
        make_config(CONFIG | values, "config.json")


@pytest.mark.parametrize("content", [
    b"", b"\0" * 40, b"PK\x03\x04", pickle.dumps({"centroids": 1}), b"\xff" * 8 + b"{}", b"[" * 9999,
])
def test_no_bytes_make_a_memory(content, tmp_path):
    path = tmp_path / "memory.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="memory.safetensors"):
        TeacherMemory.load(path)


@pytest.fixture
def copied_teacher(rte_teacher, tmp_path):
    """A copy of the teacher to spoil."""
    return shutil.copytree(rte_teacher, tmp_path / "teacher")


@pytest.mark.parametrize("name", [
    "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json",
    "pytorch_model.bin", "pytorch_model.bin.index.json",
])
@pytest.mark.parametrize("how", ["pickle", "archive"])
def test_no_pickle_is_executed(name, how, run_script, copied_teacher, toy_glue, tmp_path):
    canary = tmp_path / "executed"
    if name.startswith(("pytorch_model", "model.safetensors.index")):
        (copied_teacher / "model.safetensors").unlink()
    with open(copied_teacher / name, "wb") as file:
        (pickle.dump if how == "pickle" else torch.save)({"classifier.bias": Exploit(canary)}, file)
    ended = run_script(
        "run_glue_intra_inter.py", "--model_name_or_path", copied_teacher, "--task_name", "RTE", "--data_dir", toy_glue,
        "--output_dir", tmp_path / "out", "--do_train", "--max_seq_length", 24,
    )
    assert ended.status == 2 and str(copied_teacher) in ended.last_line, ended.err
    assert not canary.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("values, expected", [
    ({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}, "never run"), ({"tokenizer_class": "GPT2Tokenizer"}, "GPT2Tokenizer"),
])
def test_tokenizers_bring_no_code(values, expected, run_script, copied_teacher, toy_glue, tmp_path):
    path = copied_teacher / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    (copied_teacher / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Evil: pass\n")
    ended = run_script(
        "train_memory.py", "--model_name_or_path", copied_teacher, "--task_name", "RTE", "--data_dir", toy_glue,
        "--output_dir", tmp_path / "out", "--do_train", "--max_seq_length", 24,
    )
    assert ended.status == 2 and expected in ended.last_line
    assert not (tmp_path / "executed").exists()


def test_special_tokens_that_never_resolve(run_script, copied_teacher, toy_glue, tmp_path):
    odd = {"pad_token": {"a": 1}, "unk_token": {"a": 1}}
    (copied_teacher / "special_tokens_map.json").write_text(json.dumps(odd))
    (copied_teacher / "tokenizer_config.json").unlink()
    ended = run_script("run_glue_intra_inter.py", "--task_name", "RTE", "--data_dir", toy_glue, "--output_dir", tmp_path / "out",
                       "--student_model_name_or_path", copied_teacher, "--do_eval", "--max_seq_length", 24)
    assert ended.status in (0, 2) and "Traceback" not in ended.err


def test_a_tokenizer_whose_template_names_other_ids(run_script, copied_teacher, toy_glue, tmp_path):
    path = copied_teacher / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 10**6], "cls": ["[CLS]", 2]}
    path.write_text(json.dumps(content))
    path = copied_teacher / "tokenizer_config.json"  # BertTokenizer would make its own template
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    ended = run_script(
        "train_memory.py", "--model_name_or_path", copied_teacher, "--task_name", "RTE", "--data_dir", toy_glue,
        "--output_dir", tmp_path / "out", "--do_train", "--max_seq_length", 24,
    )
    assert ended.status == 2 and "token id 1000000" in ended.last_line


def test_inputs_in_the_output_folder_are_not_removed(run_script, rte_teacher, toy_glue, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(rte_teacher, out / "checkpoint-5")
    for folder in (out, out / "checkpoint-5"):
        (folder / "training_args.json").write_text("{}")
    common = ["--task_name", "RTE", "--data_dir", toy_glue, "--output_dir", out, "--do_train", "--max_seq_length", 24,
              "--overwrite_output_dir", "--model_name_or_path"]
    ended = run_script("run_glue_intra_inter.py", *common, out / "checkpoint-5")
    assert ended.status == 2 and "also --model_name_or_path" in ended.last_line and (out / "checkpoint-5").is_dir()
    ended = run_script("run_glue_intra_inter.py", *common, rte_teacher, "--results_file", out / "config.json")
    assert ended.status == 2 and "--results_file" in ended.last_line and (out / "checkpoint-5").is_dir()


def test_a_folder_with_another_programs_checkpoint_is_refused(run_script, rte_teacher, toy_glue, tmp_path):
    (tmp_path / "out/checkpoint-40").mkdir(parents=True)
    (tmp_path / "out/training_args.json").write_text("{}")
    refused = run_script(
        "run_glue_intra_inter.py", "--task_name", "RTE", "--data_dir", toy_glue, "--output_dir", tmp_path / "out", "--do_train",
        "--overwrite_output_dir", "--model_name_or_path", rte_teacher,
    )
    assert refused.status == 2 and "checkpoint-40, which is not a checkpoint of ours" in refused.last_line
    assert (tmp_path / "out/checkpoint-40").is_dir()


def test_a_checkpoint_without_its_training_state_is_not_taken_for_a_model(run_script, toy_glue, rte_teacher, tmp_path):
    checkpoint = tmp_path / "out/checkpoint-2"
    shutil.copytree(rte_teacher, checkpoint)
    for folder in (checkpoint, tmp_path / "out"):
        (folder / "training_args.json").write_text('{"run": "x", "settings": {}}')
    refused = run_script(
        "run_glue_intra_inter.py", "--task_name", "RTE", "--data_dir", toy_glue, "--output_dir", tmp_path / "out", "--do_train",
        "--overwrite_output_dir", "--model_name_or_path", rte_teacher, "--student_model_name_or_path", checkpoint,
    )
    assert refused.status == 2 and f"{checkpoint}: it lacks training_state.json" in refused.last_line
    assert (checkpoint / "model.safetensors").exists()


def test_a_small_share_of_every_kind():
    """tests/stress/try_bad_input.py with a few inputs of each kind; by itself it tries thousands."""
    ended = subprocess.run(
        [sys.executable, ROOT / "tests/stress/try_bad_input.py", "--inputs", "34", "--seed", "7"], capture_output=True, text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_model_whose_config_is_elsewhere_is_evaluated_with_it(run_script, copied_teacher, toy_glue, tmp_path):
    command = ["scripts/finetune_teacher.py", "--task_name", "RTE", "--data_dir", toy_glue, "--output_dir", tmp_path / "out",
               "--do_eval", "--max_seq_length", 24, "--model_name_or_path", copied_teacher]
    expected = run_script(*command)
    (copied_teacher / "config.json").rename(tmp_path / "config.json")
    scores = (tmp_path / "out/eval_results.txt").read_text()
    ended = run_script(*command, "--config_name", tmp_path / "config.json")
    assert expected.status == ended.status == 0, ended.err
    assert (tmp_path / "out/eval_results.txt").read_text() == scores
    assert run_script(*command).status == 2
