"""What makes training faster and must not make it wrong: the cache in a run, batches of similar length, half precision."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from short_examples import short_examples
from transformers import BertConfig

from fsd.glue.dataset import EncodedDataset
from fsd.models.student import new_model
from fsd.training import loop
from fsd.training.run import update_batches

SCRIPT = "run_glue_intra_inter.py"


@pytest.fixture
def distil(run_script, toy_glue, rte_teacher, tmp_path):
    """Call ``distil(name, flags…)``: trains an FSD student for two epochs; returns its weights."""

    def run(name, *flags, dropout=0.1):
        output_dir, config = tmp_path / name, tmp_path / "config.json"
        shape = json.loads((rte_teacher / "config.json").read_text())
        shape |= {"num_hidden_layers": 2, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        config.write_text(json.dumps(shape))
        finished = run_script(
            SCRIPT, "--student_config_name", config, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue,
            "--task_name", "RTE", "--do_lower_case", "--per_gpu_train_batch_size", 16, "--max_seq_length", 24,
            "--output_dir", output_dir, "--do_train", "--copy_teacher", "--num_train_epochs", 2,
            "--learning_rate", "1e-3", "--skip_teacher_eval", *flags,
        )
        assert finished.status == 0, finished.err
        return load_file(output_dir / "model.safetensors")

    return run


@pytest.fixture
def dataset():
    return short_examples()


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("flags", [
    ["--beta", "0"], ["--internal"], ["--internal", "--mask_padding"], ["--do_layerwise", "--mask_padding"],
    ["--mask_padding", "--group_by_length", "--bf16"],
], ids=" ".join)
def test_a_cold_a_warm_a_rebuilt_cache_and_one_in_memory_train_the_same_bits(distil, tmp_path, flags):
    cold = distil("cold", "--cache_teacher", tmp_path / "cache", *flags)
    files = sorted((tmp_path / "cache").rglob("*.npy"))
    assert files
    assert not same(cold, distil("another seed", "--cache_teacher", tmp_path / "cache", *flags, "--seed", 7))
    assert same(cold, distil("warm", "--cache_teacher", tmp_path / "cache", *flags))
    assert sorted((tmp_path / "cache").rglob("*.npy")) == files
    assert same(cold, distil("rebuilt", "--cache_teacher", tmp_path / "another", *flags, "--per_gpu_eval_batch_size", 3))
    assert same(cold, distil("ram", "--cache_teacher", "ram", *flags))


def test_the_cache_serves_every_method_and_adds_only_what_is_missing(distil, tmp_path):
    def written():
        return {path.relative_to(tmp_path / "cache"): path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}

    distil("kd", "--beta", 0, "--cache_teacher", tmp_path / "cache")
    logits = written()
    distil("intra", "--internal", "--cache_teacher", tmp_path / "cache")
    assert len(logits) == 1 and len(written()) == 2 and logits.items() < written().items()
    every = written()
    distil("local", "--cache_teacher", tmp_path / "cache")
    distil("kd again", "--beta", 0, "--cache_teacher", tmp_path / "cache")
    assert written() == every
    distil("masked", "--mask_padding", "--cache_teacher", tmp_path / "cache")
    distil("subset", "--max_train_samples", 40, "--cache_teacher", tmp_path / "cache")
    assert len(list((tmp_path / "cache").rglob("cache.json"))) == 3


@pytest.mark.parametrize(("flags", "message"), [
    (["--group_by_length"], "--group_by_length needs --mask_padding"),
    (["--fp16", "--bf16"], "exclude each other"),
    (["--cache_teacher", "ram", "--alpha", "1", "--beta", "0"], "no loss compares with the teacher"),
])
def test_contradictions_are_refused(run_script, toy_glue, rte_teacher, flags, message):
    finished = run_script(SCRIPT, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE",
                          "--output_dir", "out", "--do_train", *flags)
    assert finished.status == 2 and message in finished.last_line


@pytest.mark.parametrize(("size", "group"), [(2, 1), (5, 3), (64, 1)])
def test_batches_of_similar_length_hold_every_example_once(dataset, size, group):
    def epoch(number, group_by_length=True):
        updates = update_batches(dataset.lengths, number, 1, size, group, group_by_length)
        assert [len(update) for update in updates[:-1]] == [group] * (len(updates) - 1)
        return [batch.tolist() for update in updates for batch in update]

    assert sorted(sum(epoch(0), [])) == list(range(37))
    assert sorted(map(len, epoch(0))) == sorted(map(len, epoch(0, group_by_length=False)))
    assert epoch(0) == epoch(0) and (size == 64 or epoch(0) != epoch(1))

    def positions(batches):
        return sum(len(batch) * int(dataset.lengths[batch].max()) for batch in batches)

    assert positions(epoch(0)) <= positions(epoch(0, group_by_length=False))


def test_fp16_trains_close_to_float32_and_stays_finite(distil):
    single, half = distil("float32", "--internal"), distil("fp16", "--internal", "--fp16")
    assert not same(single, half)
    for name, value in half.items():
        assert torch.isfinite(value).all(), name
        # 10 steps of at most 1e-3 a weight; half precision may turn some of Adam's signs.
        torch.testing.assert_close(value, single[name], rtol=0, atol=1e-2)


def test_steps_that_overflow_in_fp16_are_left_out(distil, rte_teacher, tmp_path):
    weights = distil("overflow", "--fp16", "--beta", "1e6", "--internal", "--max_steps", 3)
    assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.skipif(not shutil.which("g++"), reason="--compile needs a C++ compiler")
def test_a_compiled_step_is_the_same_to_rounding(distil):
    """The last batch of the epoch, of 6 examples, is not compiled. Dropout draws differ, so it is turned off."""
    plain, compiled = (distil(name, "--internal", "--mask_padding", *more, dropout=0.0)
                       for name, more in (("plain", []), ("compiled", ["--compile"])))
    for name, value in compiled.items():
        # 10 steps of at most 1e-3 a weight; rounding may turn some of Adam's signs where a gradient is near zero.
        torch.testing.assert_close(value, plain[name], rtol=0, atol=1e-2)


def test_hidden_states_do_not_break_the_compiled_graph(monkeypatch):
    from torch._dynamo.utils import counters

    monkeypatch.setattr(loop, "compiled", lambda function, shapes: torch.compile(function, backend="eager", dynamic=False))
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=1, intermediate_size=8)
    ids = torch.ones(2, 4, dtype=torch.int32)
    data = EncodedDataset(ids, ids, torch.tensor([4, 3]), None, None, "train", "")
    run = SimpleNamespace(student=new_model(config, 0), teacher=new_model(config, 1), train_set=data)
    torch.compiler.reset()
    counters.clear()
    model_forward = loop.compiled_forward(run)
    for model in (run.student, run.teacher):
        model_forward(model, data.batch(torch.arange(2)), (1,))
    assert not counters["graph_break"]


def test_a_missing_compiler_is_told(run_script, toy_glue, rte_teacher, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    finished = run_script(SCRIPT, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE",
                          "--output_dir", "out", "--do_train", "--compile")
    assert finished.status == 2 and "C++ compiler no-such-compiler" in finished.last_line


@pytest.mark.parametrize(("lengths", "expected"), [([3, 5], 6), ([6], 6), ([12, 1], 12), ([7], 9), ([10], 12)])
def test_lengths_are_rounded_up_to_the_next_bucket(dataset, lengths, expected):
    cut = replace(dataset, lengths=torch.tensor(lengths + [1] * (37 - len(lengths))))
    indices = torch.arange(len(lengths))
    assert cut.batch(indices, True, [2, 6, 9, 12])["input_ids"].shape == (len(lengths), expected)
    assert cut.batch(indices, buckets=[2, 6, 9, 12])["input_ids"].shape[1] == 12
