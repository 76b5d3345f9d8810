"""What the tests share: a small corpus, small BERTs, and a way to run a script with its real command line."""

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded in tests; a wrong name fails at once
os.environ.setdefault("MPLBACKEND", "Agg")

import torch  # noqa: E402
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer  # noqa: E402

from fsd.glue.tasks import find_task  # noqa: E402
from fsd.models.loading import name_labels  # noqa: E402
from fsd.system.signals import handling_signals  # noqa: E402

with handling_signals(signal.default_int_handler):  # and no others afterwards, so that Ctrl-C ends pytest as ever
    import fsd.cli.early_signals  # noqa: F401

ROOT = Path(__file__).parent.parent


class Finished:
    """A script that has ended: its exit status, and what it printed."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    @property
    def last_line(self):
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


@pytest.fixture
def run_script(monkeypatch, capfd, tmp_path):
    """Call ``run_script("run_glue_all.py", "--flag", value, …)``: the script as ``__main__``, in an empty folder."""

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [str(ROOT / script), *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend((ROOT / script).parent)  # where the interpreter looks for a script's own modules
        capfd.readouterr()
        status = 0
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = capfd.readouterr()
        return Finished(status, out, err)

    return run


@pytest.fixture(scope="session")
def toy_glue(tmp_path_factory):
    """A small built-in corpus of all nine tasks."""
    folder = tmp_path_factory.mktemp("toy")
    sizes = ["--train_rows", "70", "--dev_rows", "40", "--test_rows", "10"]
    subprocess.run([sys.executable, ROOT / "scripts/make_toy_glue.py", "--output_dir", folder, *sizes], check=True)
    return folder


@pytest.fixture(scope="session")
def save_bert(toy_glue):
    """Call ``save_bert(folder, task, layers=4, …)``: a small random BERT with the task's labels and a tokenizer."""

    def save(folder, task_name, layers=4, width=16, seed=0, positions=64):
        tokenizer = BertTokenizer.from_pretrained(toy_glue)
        torch.manual_seed(seed)
        task = find_task(task_name)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
            intermediate_size=2 * width, max_position_embeddings=positions, num_labels=task.num_logits,
        )
        name_labels(config, task)
        # Far from zero, so that the teacher's logits and the distances to its centroids are no rounding noise.
        config.initializer_range = 0.5
        BertForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def rte_teacher(save_bert, tmp_path_factory):
    """A random 4-layer teacher for RTE."""
    return save_bert(tmp_path_factory.mktemp("teacher"), "RTE")


@pytest.fixture
def resumable_flags(toy_glue, rte_teacher, tmp_path):
    """The flags of a small FSD_I run in ``tmp_path / "out"``, which can be stopped and resumed."""
    return [
        "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_lower_case", "--copy_teacher",
        "--per_gpu_train_batch_size", 16, "--max_seq_length", 24, "--output_dir", tmp_path / "out", "--do_train", "--do_eval",
        "--num_train_epochs", 2, "--learning_rate", "1e-3", "--skip_teacher_eval", "--internal", "--resume", "--save_steps", 4,
        "--logging_steps", 3, "--evaluate_during_training",
    ]


@pytest.fixture
def submit(run_script, resumable_flags):
    """Call ``submit(flags…)``: that run with more flags; a flag given twice counts as last given."""
    return lambda *flags: run_script("run_glue_intra_inter.py", *resumable_flags, *flags)


@pytest.fixture
def left_alone(submit, tmp_path):
    """The folder of the same run without a break."""
    assert submit("--output_dir", tmp_path / "alone", "--run_file", "runs-alone").status == 0
    (tmp_path / "results.csv").unlink()
    return tmp_path / "alone"


@pytest.fixture(scope="session")
def memory(rte_teacher, toy_glue, tmp_path_factory):
    """A memory of five centroids of the RTE teacher at length 24, built by the real script in another process."""
    folder = tmp_path_factory.mktemp("memory")
    subprocess.run(
        [sys.executable, ROOT / "train_memory.py", "--model_name_or_path", rte_teacher, "--task_name", "rte",
         "--data_dir", toy_glue, "--output_dir", folder, "--do_train", "--num_centroid", "5", "--max_seq_length", "24",
         "--do_lower_case", "--run_file", folder / "runs", "--per_gpu_train_batch_size", "16",
         "--overwrite_output_dir"],
        check=True, cwd=ROOT,
    )
    return folder
