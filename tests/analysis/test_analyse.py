"""scripts/analyse.py: what it writes for every task, what it takes from the student's record, and what it refuses."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from safetensors.torch import load_file, save_file

from fsd.glue.tasks import TASKS

LENGTH = 20


@pytest.fixture
def analyse(run_script, toy_glue, tmp_path):
    """Call ``analyse(teacher, student, **flags)``: the finished program, and the analysis or None."""

    def run(teacher, student, **flags):
        given = {
            "model_name_or_path": teacher, "student_model_name_or_path": student, "task_name": "RTE", "data_dir": toy_glue,
            "output_file": tmp_path / "analysis.json", "max_seq_length": LENGTH, "cka_batch_size": 5, "no_cuda": True,
        } | flags
        arguments = []
        for name, value in given.items():
            if value not in (None, False):
                arguments += [f"--{name}"] if value is True else [f"--{name}", value]
        finished = run_script("scripts/analyse.py", *arguments)
        assert "Traceback" not in finished.err
        path = given["output_file"]
        return finished, json.loads(path.read_text()) if finished.status == 0 else None

    return run


@pytest.fixture
def refused(analyse, tmp_path):
    """Call ``refused(teacher, student, **flags)``: the program must refuse and write nothing; returns its line."""

    def run(teacher, student, **flags):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        finished, _ = analyse(teacher, student, **flags)
        assert finished.status == 2, finished.err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return finished.last_line

    return run


@pytest.fixture(scope="module")
def untrained(save_bert, tmp_path_factory):
    """A 2-layer student of RTE without a record."""
    return save_bert(tmp_path_factory.mktemp("untrained"), "RTE", layers=2, seed=5)


@pytest.fixture
def distilled(run_script, toy_glue, rte_teacher, tmp_path):
    """A student of FSD_I with its record."""
    finished = run_script(
        "run_glue_intra_inter.py", "--internal", "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name",
        "RTE", "--output_dir", tmp_path / "S", "--do_train", "--max_seq_length", LENGTH, "--max_steps", 2, "--seed", 7,
        "--per_gpu_train_batch_size", 4, "--skip_teacher_eval", "--no_cuda",
    )
    assert finished.status == 0, finished.err
    return tmp_path / "S"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task(analyse, save_bert, toy_glue, tmp_path, task):
    teacher = save_bert(tmp_path / "teacher", task.name)
    student = save_bert(tmp_path / "student", task.name, layers=2, width=8, seed=1)
    finished, found = analyse(teacher, student, task_name=task.name)
    assert finished.status == 0, finished.err
    assert set(found) == {"task", "method", "seed", "batch_size", "teacher_hash", "run", "max_seq_length", "mask_padding",
                          "restoration", "cka", "layers", "relations", "curves"}
    assert (found["task"], found["method"], found["seed"], found["run"]) == (task.name, "student", None, None)
    assert (found["restoration"] is None) == task.regression
    assert (found["cka"]["split"], found["cka"]["batch_size"]) == ("test", 5)
    assert np.shape(found["cka"]["map"]) == (2, 2) and np.shape(found["layers"]["map"]) == (5, 3)  # 10 examples of test
    assert all(value > 0 for value in found["relations"].values()) and found["curves"] is None


def test_the_run_comes_from_the_students_record(analyse, rte_teacher, distilled):
    record = json.loads((distilled / "training_args.json").read_text())
    finished, found = analyse(rte_teacher, distilled)
    assert finished.status == 0, finished.err
    assert (found["method"], found["seed"], found["batch_size"], found["run"]) == ("FSD_I", 7, 4, record["run"])
    assert record["settings"]["--model_name_or_path"] == f"sha256:{found['teacher_hash']}"


def test_the_teacher_as_its_own_student(analyse, rte_teacher, tmp_path):
    _, found = analyse(rte_teacher, rte_teacher)
    assert found["method"] == "teacher" and found["restoration"]["agreement"] == 1
    assert np.allclose(np.diagonal(found["cka"]["map"]), 1) and found["cka"]["mean_diagonal"] == pytest.approx(1)
    _, copied = analyse(rte_teacher, shutil.copytree(rte_teacher, tmp_path / "copy"))
    assert copied == found


def test_the_split_its_size_and_the_csv_files(analyse, rte_teacher, untrained, tmp_path):
    finished, found = analyse(rte_teacher, untrained, split="dev", max_batches=3, csv=True)
    assert finished.status == 0 and found["cka"]["split"] == "dev" and np.shape(found["cka"]["map"]) == (3, 3)
    layers = found["layers"]
    for name, values in (("cka", found["cka"]["map"]), ("layers", layers["map"]), ("layers-chance", layers["chance_map"]),
                         ("layers-minibatch", layers["minibatch_map"])):
        with open(tmp_path / f"analysis.json.{name}.csv", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["teacher", *(f"student_{at}" for at in range(len(values[0])))]
        assert [list(map(float, row[1:])) for row in rows] == values
    assert analyse(rte_teacher, untrained, csv=True)[0].status == 0  # an earlier analysis is replaced
    assert list(tmp_path.glob("analysis.json.*.csv"))
    (tmp_path / "analysis.json.cka.csv").write_text("mine")
    assert analyse(rte_teacher, untrained)[0].status == 0
    assert [path.read_text() for path in tmp_path.glob("analysis.json.*.csv")] == ["mine"]


def test_without_a_test_file_the_heat_map_is_of_dev(analyse, refused, toy_glue, rte_teacher, untrained, tmp_path):
    (tmp_path / "RTE").mkdir()
    shutil.copy(toy_glue / "RTE/dev.tsv", tmp_path / "RTE")
    assert "test.tsv: no such file" in refused(rte_teacher, untrained, data_dir=tmp_path, split="test")
    assert analyse(rte_teacher, untrained, data_dir=tmp_path)[1]["cka"]["split"] == "dev"


def test_models_of_another_task(refused, save_bert, rte_teacher, distilled, tmp_path):
    mnli = save_bert(tmp_path / "mnli", "MNLI", layers=2)
    assert "3 label(s), RTE has 2" in refused(rte_teacher, mnli)
    cola = save_bert(tmp_path / "cola", "CoLA", layers=2)
    assert "--student_model_name_or_path" in (line := refused(rte_teacher, cola)) and "labels" in line
    # QNLI has the labels of RTE, so that only the record can tell.
    line = refused(rte_teacher, distilled, task_name="QNLI")
    assert "was trained on RTE, not on QNLI" in line and str(distilled) in line


def test_a_student_of_another_teacher(refused, analyse, save_bert, distilled, tmp_path):
    other = save_bert(tmp_path / "other", "RTE", seed=3)
    assert "distilled from another teacher" in refused(other, distilled)
    path = distilled / "training_args.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"method": "fine-tuning"}))  # such a student has no teacher
    assert analyse(other, distilled)[1]["method"] == "fine-tuning"


@pytest.mark.parametrize("record", ["[]", "{}", '{"arguments": {"task_name": 3}}', "{"])
def test_a_damaged_record(refused, rte_teacher, untrained, tmp_path, record):
    student = shutil.copytree(untrained, tmp_path / "student")
    (student / "training_args.json").write_text(record)
    assert "training_args.json" in refused(rte_teacher, student)


def test_a_student_with_another_vocabulary(refused, rte_teacher, untrained, tmp_path):
    student = shutil.copytree(untrained, tmp_path / "student")
    text = (student / "tokenizer.json").read_text()
    (student / "tokenizer.json").write_text(text.replace('"the":', '"thee":'))
    assert "another vocabulary" in refused(rte_teacher, student)


def test_arguments_that_do_not_fit(refused, rte_teacher, untrained, tmp_path, monkeypatch):
    assert "--cka_batch_size" in refused(rte_teacher, untrained, cka_batch_size=1)
    assert "test has 10 examples, fewer than one mini-batch of 11" in refused(rte_teacher, untrained, cka_batch_size=11)
    assert "dev has 40 examples" in refused(rte_teacher, untrained, cka_batch_size=41, split="dev")
    assert "--curves" in refused(rte_teacher, untrained, curves=tmp_path / "nowhere")
    assert "no such folder" in refused(rte_teacher, tmp_path / "nowhere")
    assert "no such folder" in refused(tmp_path / "nowhere", untrained)
    assert "--max_seq_length 99" in refused(rte_teacher, untrained, max_seq_length=99)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "torchrun" in refused(rte_teacher, untrained)


def test_no_file_but_an_earlier_analysis_is_replaced(refused, rte_teacher, untrained, tmp_path):
    (tmp_path / "notes.json").write_text('{"cka": 1}')
    assert "is no earlier analysis" in refused(rte_teacher, untrained, output_file=tmp_path / "notes.json")
    (tmp_path / "new.json.cka.csv").write_text("mine")
    assert "new.json.cka.csv is there" in refused(rte_teacher, untrained, output_file=tmp_path / "new.json", csv=True)
    (tmp_path / "new.json.cka.csv").unlink()
    (tmp_path / "new.json.layers.csv").mkdir()
    assert "new.json.layers.csv is there" in refused(rte_teacher, untrained, output_file=tmp_path / "new.json", csv=True)
    assert "--output_file" in refused(rte_teacher, untrained, output_file=tmp_path)
    (tmp_path / "text").write_text("text")
    assert "--output_file" in refused(rte_teacher, untrained, output_file=tmp_path / "text")
    assert "not a folder" in refused(rte_teacher, untrained, output_file=ROOT / "README.md" / "x.json")


def test_arguments_are_known_to_be_good_before_anything_heavy_is_imported(toy_glue, tmp_path):
    lines = [["--help"], ["--model_name_or_path", "no/such", "--student_model_name_or_path", "no/such", "--task_name", "RTE",
                          "--data_dir", str(toy_glue), "--output_file", "x.json"]]
    code = f"""if True:
        import contextlib, io, runpy, sys
        for line in {lines}:
            sys.argv = ["analyse.py", *line]
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    runpy.run_path({str(ROOT / "scripts/analyse.py")!r}, run_name="__main__")
            except SystemExit as end:
                print(end.code, *({{"torch", "transformers", "numpy"}} & set(sys.modules)))
    """
    environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "0\n2\n", done.stderr


def test_a_student_that_has_diverged_is_named(refused, rte_teacher, untrained, tmp_path):
    diverged = shutil.copytree(untrained, tmp_path / "diverged")
    weights = load_file(diverged / "model.safetensors")
    weights["bert.encoder.layer.0.output.dense.weight"].fill_(1e38)
    save_file(weights, diverged / "model.safetensors", metadata={"format": "pt"})
    assert f"{diverged}: its hidden states are NaN or infinite" in refused(rte_teacher, diverged)
