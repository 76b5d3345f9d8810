"""Bad input of every kind: one clear line, exit status 2, nothing written and nothing lost."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from safetensors.torch import load_file, save_file

LENGTH = 24


@pytest.fixture
def refused(run_script, toy_glue, rte_teacher, tmp_path):
    """Call ``refused(script, **flags)``: the script must refuse; returns its line. A flag of None is left out."""

    def run(script="run_glue_intra_inter.py", **flags):
        given = {
            "model_name_or_path": rte_teacher, "data_dir": toy_glue, "task_name": "RTE", "output_dir": tmp_path / "out",
            "do_train": True, "max_seq_length": LENGTH, "run_file": tmp_path / "runs",
        } | flags
        before = listing(tmp_path)
        arguments = []
        for name, value in given.items():
            if value is not None and value is not False:
                arguments += [f"--{name}"] if value is True else [f"--{name}", value]
        finished = run_script(script, *arguments)
        assert finished.status == 2, finished.err
        assert "Traceback" not in finished.err
        assert listing(tmp_path) == before
        assert not (tmp_path / "out" / "config.json").exists() or "out" in str(before)
        return finished.last_line

    return run


def listing(folder):
    """Every file below the folder with its content."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def broken_teacher(rte_teacher, tmp_path):
    """A copy of the teacher to spoil."""
    return shutil.copytree(rte_teacher, tmp_path / "broken")


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("flag, value, expected", [
    ("alpha", "1.5", "at most 1"), ("alpha", "nan", "out of range"), ("beta", "-1", "at least 0"),
    ("beta", "inf", "out of range"), ("temperature", "0", "above 0"), ("learning_rate", "0", "above 0"),
    ("learning_rate", "fast", "not a number"), ("max_steps", "0", "at least 1"), ("max_seq_length", "2", "at least 8"),
    ("seed", "1" + 400 * "0", "out of range"),
    ("per_gpu_train_batch_size", "0", "at least 1"), ("per_gpu_train_batch_size", "2.5", "not a whole number"),
    ("num_train_epochs", "nan", "out of range"), ("max_grad_norm", "-1", "above 0"), ("seed", "-3", "at least 0"),
    ("logging_steps", "0", "at least 1"), ("warmup_steps", "-1", "at least 0"), ("max_train_samples", "0", "at least 1"),
    ("gamma_q", "1", "unrecognized"), ("alph", "0.5", "unrecognized"),
])
def test_numbers_and_flags_out_of_range(refused, flag, value, expected):
    line = refused(**{flag: value})
    assert expected in line and flag in line


@pytest.mark.parametrize("flags, expected", [
    ({"task_name": "RTF"}, "'RTF' is not a GLUE task"),
    ({"data_dir": "nowhere"}, "--data_dir nowhere"),
    ({"model_name_or_path": "no/such/teacher"}, "--model_name_or_path no/such/teacher: there is no such folder"),
    ({"model_name_or_path": None}, "--model_name_or_path"),
    ({"do_train": False}, "nothing to do"),
    ({"do_train": False, "do_eval": True}, "nothing there to evaluate"),
    ({"evaluate_during_training": True, "do_train": False, "do_eval": True}, "--evaluate_during_training"),
    ({"model_name_or_path_for_copy": "x"}, "--copy_teacher"),
    ({"max_seq_length": 100}, "--max_seq_length 100"),
    ({"student_config_name": "nothing.json"}, "--student_config_name nothing.json"),
    ({"model_name_or_path": ""}, "argument --model_name_or_path: its value is empty"),
    ({"task_name": None, "task_file": ""}, "argument --task_file: its value is empty"),
    ({"results_file=": True}, "argument --results_file: its value is empty"),
])
def test_arguments_that_do_not_fit(refused, flags, expected):
    assert expected in refused(**flags)


@pytest.mark.parametrize(
    "script", ["run_glue_intra_inter.py", "run_glue_all.py", "train_memory.py", "scripts/finetune_teacher.py"]
)
def test_arguments_are_known_to_be_good_before_anything_heavy_is_imported(script, toy_glue, tmp_path):
    (tmp_path / "full").mkdir()
    for name in ("full/notes.txt", "rows.csv", "file"):
        (tmp_path / name).write_text("mine")
    shutil.copytree(toy_glue / "RTE", tmp_path / "RTE")
    (tmp_path / "RTE" / "train.tsv").unlink()
    sound = {"task_name": "RTE", "data_dir": str(toy_glue), "output_dir": "out", "model_name_or_path": "full", "do_train": None}
    bad = [{"help": None}, {"no_such_flag": None}, {"output_dir": "full"}, {"output_dir": "file"}, {"run_file": "file"},
           {"model_name_or_path": "no/such/place"}, {"model_name_or_path": "no/teacher"}, {"data_dir": "nowhere"},
           {"data_dir": "RTE"}, {"output_dir": "x" * 300}]
    if script != "train_memory.py":
        bad += [{"results_file": "rows.csv"}, {"results_file": "full"}, {"fp16": None, "bf16": None}]
    lines = [[word for name, value in (sound | more).items() for word in (f"--{name}", value) if word] for more in bad]
    code = f"""if True:
        import contextlib, io, runpy, sys
        for line in {lines}:
            sys.argv = [{script!r}, *line]
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    runpy.run_path({str(ROOT / script)!r}, run_name="__main__")
            except SystemExit as end:
                print(end.code, *({{"torch", "transformers", "numpy"}} & set(sys.modules)))
    """
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.split("\n") == ["0", *["2"] * (len(bad) - 1), ""], done.stderr
    assert not (tmp_path / "out").exists()


def test_global_structure_without_or_with_a_wrong_memory(refused):
    for script in ("run_glue_global.py", "run_glue_all.py"):
        assert "--teacher_memory_path" in refused(script)
        assert "--teacher_memory_path nowhere" in refused(script, teacher_memory_path="nowhere")


def test_output_folder_with_content(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert "not empty" in refused()
    (tmp_path / "out" / "config.json").write_text("{}")
    assert "not a run of ours" in refused(overwrite_output_dir=True)


def test_output_folder_is_an_input(refused, rte_teacher):
    assert "also --model_name_or_path" in refused(output_dir=rte_teacher, overwrite_output_dir=True)


def test_output_folder_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(output_dir=tmp_path / "file")


def test_overwriting_removes_only_what_is_ours(run_script, toy_glue, rte_teacher, tmp_path):
    out = tmp_path / "out"
    arguments = ["--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--output_dir", out,
                 "--do_train", "--do_eval", "--max_seq_length", LENGTH, "--max_steps", 2, "--save_steps", 1, "--beta", 1]
    assert run_script("run_glue_intra_inter.py", *arguments).status == 0
    assert (out / "checkpoint-1").is_dir()
    (out / "notes.txt").write_text("mine")
    again = run_script("run_glue_intra_inter.py", *arguments[:-6], "--max_steps", 1, "--overwrite_output_dir")
    assert again.status == 0, again.err
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "checkpoint-1").exists()


def test_malformed_row_is_named_by_file_and_line(refused, toy_glue, tmp_path):
    folder = shutil.copytree(toy_glue / "RTE", tmp_path / "RTE", ignore=shutil.ignore_patterns("cached*"))
    lines = (folder / "train.tsv").read_text().splitlines(keepends=True)
    lines[5] = lines[5].replace("\t", " ")
    (folder / "train.tsv").write_text("".join(lines))
    assert "train.tsv:6:" in refused(data_dir=tmp_path)


def test_results_file_of_another_kind(refused, tmp_path):
    (tmp_path / "results.csv").write_text("name,score\nmine,1\n")
    assert "results.csv:1:" in refused()


def test_teacher_of_another_task(refused, save_bert, tmp_path):
    three = save_bert(tmp_path / "mnli", "MNLI")
    assert "3 label(s), RTE has 2" in refused(model_name_or_path=three)
    sentiment = save_bert(tmp_path / "sst", "SST-2")
    assert "negative, positive" in refused(model_name_or_path=sentiment)


def test_damaged_teachers(refused, broken_teacher):
    path = broken_teacher / "model.safetensors"
    good = load_file(path)
    save_file(good | {"classifier.bias": good["classifier.bias"] / 0}, path, {"format": "pt"})
    assert "classifier.bias holds NaN or infinity" in refused(model_name_or_path=broken_teacher)
    save_file({name: value for name, value in good.items() if "classifier" not in name}, path, {"format": "pt"})
    assert "lacks classifier" in refused(model_name_or_path=broken_teacher)
    save_file(good, path, {"format": "pt"})
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot load the model" in refused(model_name_or_path=broken_teacher)
    change_config(broken_teacher, model_type="clip")
    assert "'clip', a kind of which" in refused(model_name_or_path=broken_teacher)
    (broken_teacher / "config.json").write_text("{")
    assert "config.json as JSON" in refused(model_name_or_path=broken_teacher)


def test_tokenizer_larger_than_the_model(refused, broken_teacher, rte_teacher):
    change_config(broken_teacher, vocab_size=20)
    assert "embeddings are fewer" in refused(model_name_or_path=broken_teacher)


def test_layerwise_with_depths_that_do_not_match(refused, rte_teacher, tmp_path):
    config = json.loads((rte_teacher / "config.json").read_text()) | {"num_hidden_layers": 3}
    (tmp_path / "student.json").write_text(json.dumps(config))
    line = refused(do_layerwise=True, student_config_name=tmp_path / "student.json")
    assert "--do_layerwise" in line and "4 layers" in line and "student of 3" in line


def test_starting_student_and_copying_exclude_each_other(refused, save_bert, tmp_path):
    student = save_bert(tmp_path / "student", "RTE", layers=2)
    assert "--copy_teacher" in refused(student_model_name_or_path=student, copy_teacher=True)


@pytest.mark.parametrize("flags, expected", [
    ({"num_centroid": 1}, "--num_centroid"), ({"num_centroid": 1000}, "--num_centroid 1000"),
    ({"memory_num_train_epochs": 1}, "--memory_num_train_epochs"), ({"do_train": False}, "--do_train"),
    ({"feature_cache_gb": "nan"}, "--feature_cache_gb"), ({"model_name_or_path": None}, "--model_name_or_path"),
])
def test_memory_arguments(refused, flags, expected):
    assert expected in refused("train_memory.py", **flags)


@pytest.fixture(scope="module")
def memory(rte_teacher, toy_glue, tmp_path_factory):
    """A memory of the RTE teacher."""
    folder = tmp_path_factory.mktemp("memory")
    subprocess.run(
        [sys.executable, ROOT / "train_memory.py", "--model_name_or_path", rte_teacher, "--task_name", "rte", "--data_dir",
         toy_glue, "--output_dir", folder / "m", "--do_train", "--num_centroid", "4", "--max_seq_length", str(LENGTH),
         "--run_file", folder / "runs"],
        check=True,
    )
    return folder / "m"


@pytest.mark.parametrize("flags, expected", [
    ({"max_seq_length": 32}, "--max_seq_length"), ({"mask_padding": True}, "--mask_padding"), ({"task_name": "QNLI"}, "RTE"),
])
def test_memory_of_another_size_mode_or_task(refused, memory, flags, expected):
    assert expected in refused("run_glue_global.py", teacher_memory_path=memory, **flags)


def test_memory_of_another_teacher_or_tokenizer(refused, memory, save_bert, broken_teacher, tmp_path):
    other = save_bert(tmp_path / "other", "RTE", seed=1)
    assert "teacher" in refused("run_glue_global.py", teacher_memory_path=memory, model_name_or_path=other)
    tokenizer = json.loads((broken_teacher / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (broken_teacher / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((broken_teacher / "tokenizer_config.json").read_text()) | {"do_lower_case": False}
    (broken_teacher / "tokenizer_config.json").write_text(json.dumps(config))
    assert "tokenizer" in refused("run_glue_global.py", teacher_memory_path=memory, model_name_or_path=broken_teacher)


@pytest.mark.parametrize("script", [
    "run_glue_all.py", "train_memory.py", "scripts/download_glue.py", "tests/stress/watch_memory.py",
])
def test_help_is_shown_on_a_terminal_of_ascii_alone(script):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, env=environment)
    assert shown.returncode == 0 and len(shown.stdout) > 300 and not shown.stderr


def test_an_unknown_flag_of_the_download_is_one_line(run_script, tmp_path):
    refused = run_script("scripts/download_glue.py", "--data_dir", tmp_path, "--bogus")
    assert refused.status == 2 and refused.err.count("\n") == 1 and "--bogus" in refused.last_line
