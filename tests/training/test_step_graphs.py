"""Steps as CUDA graphs train what plain steps train. On a CPU a stand-in for the graph repeats the step in Python."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from fsd.cli import distill, finetune
from fsd.training.step_graphs import StepGraphs

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
BASELINE, INTRA_INTER, ALL = "scripts/run_baseline.py", "run_glue_intra_inter.py", "run_glue_all.py"
METHODS = {
    "fine-tuning": (BASELINE, "--method", "fine-tuning"), "PKD": (BASELINE, "--method", "pkd", "--beta", 10),
    "RKD": (BASELINE, "--method", "rkd", "--rkd_distance", 1, "--rkd_angle", 2),
    "MiniLM": (BASELINE, "--method", "minilm", "--beta", 1), "KD": (INTRA_INTER, "--beta", 0),
    "FSD_I": (INTRA_INTER, "--internal"), "FSD_L": (INTRA_INTER,), "FSD_G": ("run_glue_global.py",),
    "FSD_IL": (ALL, "--gamma_g", 0), "FSD_ILG": (ALL,),
}


@pytest.fixture
def train(run_script, toy_glue, rte_teacher, memory, tmp_path):
    """Call ``train(method, name, flags…)``: three epochs of 4 full batches and a smaller one; returns the student's weights."""

    def run(method, name, *flags):
        script, *own = METHODS[method]
        if method in ("FSD_G", "FSD_ILG"):
            own += ["--teacher_memory_path", memory]
        finished = run_script(
            script, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_train",
            "--output_dir", tmp_path / name, "--max_seq_length", 24, "--num_train_epochs", 3, "--per_gpu_train_batch_size", 16,
            "--learning_rate", "1e-3", "--copy_teacher", "--logging_steps", 5, "--skip_teacher_eval", *own, *flags,
        )
        assert finished.status == 0, finished.err
        return load_file(tmp_path / name / "model.safetensors")

    return run


def check_same(first, second):
    for name, value in second.items():
        if name.endswith("key.bias"):  # its gradient is zero but for rounding, which Adam magnifies
            continue
        # A graph reads the learning rate in float32. A step of at most 1e-3 a weight then differs by 1e-10, and Adam makes
        # more of it where a gradient is near zero. Other dropout would give differences of 1e-3.
        torch.testing.assert_close(value, first[name], rtol=0, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture
def stand_in(monkeypatch):
    """Recording without a GPU; the fixture's list has the shapes that were recorded."""
    recorded = []

    def record(self, inputs):
        recorded.append(tuple(inputs.batch["input_ids"].shape))
        return SimpleNamespace(replay=lambda: self.step(inputs))

    monkeypatch.setattr(StepGraphs, "record", record)
    for program in (distill, finetune):
        monkeypatch.setattr(program, "pick_device", lambda no_cuda, cuda_graphs: torch.device("cpu"))
    return recorded


@pytest.mark.parametrize("method", ["fine-tuning", "KD", "FSD_ILG"])
@pytest.mark.parametrize("cached", [False, True])
def test_replayed_steps_train_the_same_student(train, stand_in, method, cached):
    flags = ["--cache_teacher", "ram"] if cached and method != "fine-tuning" else []
    check_same(train(method, "plain", *flags), train(method, "graphs", "--cuda_graphs", *flags))
    assert stand_in == [(16, 24)]  # the smaller batches run as they are


def test_masked_batches_are_recorded_for_a_few_lengths(train, stand_in):
    train("FSD_L", "graphs", "--cuda_graphs", "--mask_padding")
    assert stand_in and set(stand_in) <= {(16, length) for length in (3, 6, 12, 18, 24)}
    assert len(set(stand_in)) == len(stand_in)


def test_a_run_goes_on_with_graphs_or_without(train, stand_in, tmp_path):
    whole = train("KD", "whole", "--cuda_graphs")
    for flags in ([], ["--cuda_graphs"]):
        train("KD", "parts", "--cuda_graphs", "--max_steps", 8, "--save_steps", 4, "--overwrite_output_dir")
        assert (tmp_path / "parts" / "checkpoint-4").is_dir()
        check_same(whole, train("KD", "whole", "--resume", *flags))


def test_a_teacher_is_fine_tuned_with_graphs(run_script, toy_glue, save_bert, stand_in, tmp_path):
    start = save_bert(tmp_path / "start", "RTE")
    finished = run_script(
        "scripts/finetune_teacher.py", "--model_name_or_path", start, "--data_dir", toy_glue, "--task_name", "RTE", "--do_train",
        "--output_dir", tmp_path / "teacher", "--max_seq_length", 24, "--max_steps", 6, "--logging_steps", 100, "--cuda_graphs",
    )
    assert finished.status == 0 and stand_in and "CUDA graphs" in finished.err


@pytest.mark.parametrize(("flags", "message"), [
    (["--fp16"], "--cuda_graphs does not work with --fp16"),
    (["--no_cuda"], "--cuda_graphs does not work with --no_cuda"),
    (["--gradient_accumulation_steps", 2], "--cuda_graphs does not work with --gradient_accumulation_steps"),
    (["--similarity", "procrustes"], "--cuda_graphs does not work with --similarity procrustes"),
])
def test_what_cannot_be_recorded_is_refused(run_script, toy_glue, rte_teacher, tmp_path, flags, message):
    finished = run_script(INTRA_INTER, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE",
                          "--output_dir", tmp_path / "out", "--do_train", "--cuda_graphs", *flags)
    assert finished.status == 2 and message in finished.last_line and not (tmp_path / "out").exists()


def test_a_machine_without_a_gpu_is_told(run_script, toy_glue, rte_teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finished = run_script(INTRA_INTER, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE",
                          "--output_dir", tmp_path / "out", "--do_train", "--cuda_graphs")
    assert finished.status == 2 and "--cuda_graphs needs a GPU" in finished.last_line


def test_a_step_that_cannot_be_recorded_is_told(run_script, toy_glue, rte_teacher, tmp_path, monkeypatch):
    def fails(*arguments, **named):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(distill, "pick_device", lambda no_cuda, cuda_graphs: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", fails)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    finished = run_script(INTRA_INTER, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE",
                          "--output_dir", tmp_path / "out", "--do_train", "--cuda_graphs", "--max_seq_length", 24)
    assert finished.status == 2 and finished.last_line.endswith(
        "--cuda_graphs: this step cannot be recorded (operation not permitted when stream is capturing); leave it out")


@needs_gpu
@pytest.mark.parametrize(("method", "flags"), [
    *((method, ()) for method in METHODS), ("FSD_ILG", ("--similarity", "gram")), ("FSD_ILG", ("--debiased",)),
    ("FSD_ILG", ("--normalize_distances",)), ("FSD_IL", ("--released_intra",)),
])
def test_every_method_is_recorded_on_a_gpu(train, method, flags, monkeypatch):
    replays = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: replays.append(1) or replay(graph))
    check_same(train(method, "plain", *flags), train(method, "graphs", "--cuda_graphs", *flags))
    assert len(replays) > 5


@needs_gpu
@pytest.mark.parametrize("flags", [["--bf16", "--mask_padding"], ["--bf16", "--mask_padding", "--cache_teacher", "ram"]])
def test_masked_and_cached_runs_replay_the_same_bits(train, flags):
    first, second = (train("FSD_IL", name, "--cuda_graphs", *flags) for name in ("first", "second"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
