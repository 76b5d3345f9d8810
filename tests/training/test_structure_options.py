"""The forms of the structures and of the memories that go beyond the paper, from the command line."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from fsd.training import memory_start

LENGTH = 24
MEMORY = {"similarity": ["--similarity", "procrustes"], "normalize_distances": ["--normalize_distances"],
          "memory_learning_rate": ["--memory_learning_rate", 0.5], "student_memory_init": ["--student_memory_init", "centroids"]}


@pytest.fixture
def train(run_script, toy_glue, rte_teacher, tmp_path):
    """Call ``train(script, name, flags…)``: four steps of 8; returns what finished."""

    def run(script, name, *flags):
        return run_script(
            script, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_lower_case",
            "--per_gpu_train_batch_size", 8, "--max_seq_length", LENGTH, "--output_dir", tmp_path / name, "--do_train",
            "--run_file", tmp_path / "runs", "--copy_teacher", "--max_steps", 4, "--skip_teacher_eval", "--results_file",
            tmp_path / "results.csv", *flags,
        )

    return run


@pytest.fixture
def train_ilg(train, memory):
    """Call ``train_ilg(name, flags…)``: FSD_ILG with all three structures; it must finish."""

    def run(name, *flags):
        finished = train("run_glue_all.py", name, "--teacher_memory_path", memory, "--beta", 1, "--gamma_m", 0.01, *flags)
        assert finished.status == 0, finished.err
        return finished

    return run


def rows(tmp_path):
    return list(csv.DictReader(open(tmp_path / "results.csv", newline="")))


def tensors(folder, name="model.safetensors"):
    return {key: value.tolist() for key, value in load_file(folder / name).items()}


@pytest.mark.parametrize("name", MEMORY)
def test_an_option_trains_another_student_and_is_recorded(train_ilg, tmp_path, name):
    train_ilg("paper")
    train_ilg("other", *MEMORY[name])
    columns = [[row[column] for column in MEMORY] for row in rows(tmp_path)]
    assert columns[0] == ["cka", "False", "5e-05", "random"]
    changed = {"similarity": "procrustes", "normalize_distances": "True", "memory_learning_rate": "0.5",
               "student_memory_init": "centroids"}
    assert columns[1] == [changed[name] if column == name else value for column, value in zip(MEMORY, columns[0], strict=True)]
    assert json.loads(rows(tmp_path)[1]["flags"])[name] == {"normalize_distances": True, "memory_learning_rate": 0.5}.get(
        name, changed[name])
    assert tensors(tmp_path / "paper") != tensors(tmp_path / "other")
    memories = [load_file(tmp_path / folder / "student_memory.safetensors")["centroids"] for folder in ("paper", "other")]
    assert not torch.equal(*memories)


def test_the_forms_are_told_in_log_record_and_card(train_ilg, tmp_path):
    told = train_ilg("out", "--similarity", "gram", "--normalize_distances", "--student_memory_init", "centroids",
                     "--memory_learning_rate", 0.02, "--do_layerwise").err
    assert "intra (gram)" in told and "global_distance (normalized)" in told and "memory_cka (gram)" in told
    assert "student memory: 5 centroids, start centroids, learning rate 0.02" in told
    assert "CKA at the first step: intra" in told
    objective = json.loads((tmp_path / "out/training_args.json").read_text())["objective"]
    assert (objective["similarity"], objective["normalize_distances"]) == ("gram", True)
    card = (tmp_path / "out/README.md").read_text()
    assert "local_inter (gram)" in card and "--student_memory_init centroids" in card


@pytest.mark.parametrize("flags", [[], ["--internal"]], ids=["FSD_L", "FSD_I"])
def test_each_similarity_trains_a_student_of_its_own(train, tmp_path, flags):
    for name in ("cka", "procrustes", "gram"):
        assert train("run_glue_intra_inter.py", name, *flags, "--similarity", name).status == 0
    students = [tensors(tmp_path / name) for name in ("cka", "procrustes", "gram")]
    assert students[0] != students[1] != students[2] != students[0]
    assert [row["similarity"] for row in rows(tmp_path)] == ["cka", "procrustes", "gram"]
    assert all(row["normalize_distances"] == row["student_memory_init"] == "" for row in rows(tmp_path))


@pytest.mark.parametrize(("script", "flags", "words"), [
    ("run_glue_intra_inter.py", ["--similarity", "gram", "--beta", 0], "--similarity gram: no structure has a weight"),
    ("run_glue_global.py", ["--similarity", "gram", "--beta", 0], "--similarity gram: no structure has a weight"),
    ("run_glue_global.py", ["--do_layerwise", "--teacher_memory_path", "m"], "--do_layerwise: L_I and L_L have weight 0"),
    ("run_glue_all.py", ["--do_layerwise", "--beta", 0], "--do_layerwise: L_I and L_L have weight 0"),
    ("run_glue_all.py", ["--similarity", "gram", "--gamma_i", 0, "--gamma_l", 0, "--gamma_g", 0], "no structure has a weight"),
    ("run_glue_intra_inter.py", ["--similarity", "gram", "--debiased"], "--debiased is a form of CKA, and --similarity gram"),
    ("run_glue_intra_inter.py", ["--similarity", "procrustes", "--internal", "--released_intra"],
     "--released_intra is a form of CKA, and --similarity procrustes"),
    ("run_glue_intra_inter.py", ["--similarity", "cosine"], "invalid choice: 'cosine'"),
    ("run_glue_all.py", ["--gamma_g", 0, "--normalize_distances"], "--normalize_distances: L_G has weight 0"),
    ("run_glue_all.py", ["--gamma_g", 0, "--memory_learning_rate", 1], "--memory_learning_rate: L_G has weight 0"),
    ("run_glue_global.py", ["--beta", 0, "--student_memory_init", "centroids"], "--student_memory_init: L_G has weight 0"),
    ("run_glue_global.py", ["--gamma_m", 0, "--normalize_distances"], "--normalize_distances: with --gamma_m 0 no distance"),
    ("run_glue_global.py", ["--memory_learning_rate", 0], "out of range"),
])
def test_options_without_effect_or_that_exclude_each_other_are_refused(train, tmp_path, script, flags, words):
    refused = train(script, "out", *flags)
    assert refused.status == 2 and words in refused.last_line and not (tmp_path / "out").exists()


def test_a_memory_of_other_rows_cannot_start_the_student_memory(train, memory, tmp_path):
    flags = ["--teacher_memory_path", memory, "--student_memory_init", "centroids"]
    refused = train("run_glue_global.py", "out", *flags, "--max_train_samples", 40)
    assert refused.status == 2 and "built on other rows than this run's training set" in refused.last_line
    assert "warning" not in refused.err.lower() and not (tmp_path / "out").exists()


def test_a_resumed_run_has_the_memory_of_its_checkpoint(train_ilg, tmp_path, monkeypatch):
    flags = ["--student_memory_init", "centroids", "--memory_learning_rate", 0.1, "--save_steps", 2]
    train_ilg("whole", *flags)
    calls, start = [], memory_start.start_from_clusters
    monkeypatch.setattr("fsd.cli.experiment.start_from_clusters", lambda run: calls.append(1) or start(run))
    train_ilg("again", *flags, "--save_total_limit", 5)
    assert len(calls) == 1
    (tmp_path / "again/model.safetensors").unlink()
    record = json.loads((tmp_path / "again/checkpoint-2/training_args.json").read_text())
    (tmp_path / "again/training_args.json").write_text(json.dumps(record))
    train_ilg("again", *flags, "--save_total_limit", 5, "--resume")
    assert len(calls) == 1
    for name in ("model.safetensors", "student_memory.safetensors"):
        assert tensors(tmp_path / "whole", name) == tensors(tmp_path / "again", name)


def test_other_options_are_another_run(train_ilg, train, memory, tmp_path):
    train_ilg("out", "--save_steps", 2)
    for flag, value in (("similarity", "gram"), ("student_memory_init", "centroids"), ("memory_learning_rate", 0.1)):
        refused = train("run_glue_all.py", "out", "--teacher_memory_path", memory, "--beta", 1, "--gamma_m", 0.01, "--resume",
                        "--save_steps", 2, f"--{flag}", value)
        assert refused.status == 2 and f"--{flag} is {value}, but the run in" in refused.last_line
