"""On a GPU: the loop waits for the device only where it logs, and agrees with the CPU. Skipped where there is none."""

import json

import pytest
import torch

from fsd.glue.dataset import EncodedDataset
from fsd.system.devices import pick_device
from fsd.training import update
from fsd.training.loss_log import LossLog

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_no_step_between_logging_steps_waits_for_the_device(run_script, toy_glue, rte_teacher, tmp_path, monkeypatch):
    write, curves_of = LossLog.write, update.batch_curves

    def curves_unwatched(run, outputs):
        torch.cuda.set_sync_debug_mode("default")
        return curves_of(run, outputs)

    def write_unwatched(self, step, bar, curves):
        write(self, step, bar, curves)
        # From the first logging step to the last one, any other read-back raises.
        torch.cuda.set_sync_debug_mode("default" if step == self.run.steps else "error")

    monkeypatch.setattr(update, "batch_curves", curves_unwatched)
    monkeypatch.setattr(LossLog, "write", write_unwatched)
    try:
        finished = run_script(
            "run_glue_all.py", "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE",
            "--output_dir", tmp_path / "out", "--do_train", "--max_seq_length", 24, "--gamma_g", 0, "--mask_padding",
            "--max_steps", 5, "--logging_steps", 4,
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert finished.status == 0, finished.err


def test_first_losses_agree_with_the_cpu(run_script, toy_glue, rte_teacher, tmp_path):
    config = json.loads((rte_teacher / "config.json").read_text())
    config |= {"num_hidden_layers": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "student.json").write_text(json.dumps(config))
    losses = {}
    for device, flags in (("gpu", []), ("cpu", ["--no_cuda"])):
        finished = run_script(
            "run_glue_intra_inter.py", "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE",
            "--output_dir", tmp_path / device, "--do_train", "--max_seq_length", 24, "--max_steps", 1, "--copy_teacher",
            "--student_config_name", tmp_path / "student.json", *flags,
        )
        assert finished.status == 0, finished.err
        (line,) = [line for line in finished.err.splitlines() if "weighted losses" in line]
        losses[device] = [float(word) for word in line.replace("(", " ").split() if word.replace(".", "").isdigit()]
    assert losses["gpu"] == pytest.approx(losses["cpu"], rel=0.01)  # printed with four digits


def test_masked_attention_of_64_positions_has_finite_gradients():
    """All scores of a query are about −200, as in deep layers. cuDNN's kernel then gave NaN on an H100."""
    device = pick_device()
    query = torch.full((2, 4, 64, 32), -6.0, device=device, dtype=torch.bfloat16, requires_grad=True)
    key = torch.full_like(query, 6.0).add_(torch.randn_like(query) / 8).requires_grad_()
    mask = torch.ones(2, 1, 64, 64, dtype=torch.bool, device=device).tril()
    torch.nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=mask).sum().backward()
    assert torch.isfinite(query.grad).all() and torch.isfinite(key.grad).all()


def test_data_that_would_not_fit_give_the_same_batches_from_pinned_memory(monkeypatch):
    ids = torch.arange(60, dtype=torch.int32).view(10, 6)
    dataset = EncodedDataset(ids, (ids % 2).to(torch.uint8), torch.tensor([3, 6] * 5), torch.arange(10), None, "train", "")
    kept = dataset.to(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (ids.nbytes, ids.nbytes))
    streamed = dataset.to(torch.device("cuda", 0))
    assert kept.input_ids.is_cuda and not streamed.input_ids.is_cuda
    indices = torch.tensor([4, 0, 2])
    for cut_to_longest in (False, True):
        one, other = kept.batch(indices, cut_to_longest), streamed.batch(indices, cut_to_longest)
        for name, value in one.items():
            assert other[name].is_cuda and torch.equal(value, other[name]), name
