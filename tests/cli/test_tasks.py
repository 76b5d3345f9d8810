"""Every task from its files to metrics and leaderboard files, through the real command line."""

import csv

import pytest
from safetensors.torch import load_file

from fsd.glue.tasks import TASKS

METRICS = {
    "CoLA": {"mcc"}, "SST-2": {"acc"}, "MRPC": {"acc", "f1", "acc_and_f1"}, "STS-B": {"pearson", "spearmanr", "corr"},
    "QQP": {"acc", "f1", "acc_and_f1"}, "MNLI": {"mnli/acc", "mnli-mm/acc"}, "QNLI": {"acc"}, "RTE": {"acc"}, "WNLI": {"acc"},
}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_from_end_to_end(task, run_script, save_bert, toy_glue, tmp_path):
    teacher = save_bert(tmp_path / "teacher", task.name)
    arguments = [
        "--model_name_or_path", teacher, "--data_dir", toy_glue, "--task_name", task.name.lower().replace("-", ""),
        "--output_dir", tmp_path / "out", "--max_seq_length", 24, "--per_gpu_eval_batch_size", 16, "--do_eval", "--do_predict",
    ]
    trained = run_script("run_glue_intra_inter.py", *arguments, "--do_train", "--max_steps", 2)
    assert trained.status == 0, trained.err
    results = dict(line.split(" = ") for line in (tmp_path / "out" / "eval_results.txt").read_text().splitlines())
    assert set(results) == METRICS[task.name]
    for split, name in task.leaderboard_files.items():
        with open(tmp_path / "out" / "predictions" / name, newline="") as file:
            rows = list(csv.reader(file, delimiter="\t"))
        assert rows[0] == ["index", "prediction"] and len(rows) == 11, split
        assert {row[1] for row in rows[1:]} <= set(task.file_labels) or task.regression
    # The saved student, evaluated by itself, has the same metrics.
    before = load_file(tmp_path / "out" / "model.safetensors")
    again = run_script("run_glue_all.py", *arguments[:-1])
    assert again.status == 0, again.err
    assert dict(line.split(" = ") for line in (tmp_path / "out" / "eval_results.txt").read_text().splitlines()) == results
    assert before.keys() == load_file(tmp_path / "out" / "model.safetensors").keys()
