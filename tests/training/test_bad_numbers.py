"""Numbers that are not finite: the step is left out, and the run ends with the examples of the batch."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from fsd.training import update


@pytest.fixture
def spoil(monkeypatch):
    """Call ``spoil(call, how)``: that batch's loss is NaN, or only its gradient infinite.

    Returns what is noted of it: the batch's ``examples``, the student's ``weights`` before, and ``applied``, whether
    the weights were others at any later batch.
    """
    original, original_inputs, noted = update.batch_losses, update.batch_inputs, {"calls": 0, "applied": False}

    def arrange(call, how):
        def inputs_of(run, indices, *rest):
            noted["indices"] = indices.tolist()
            return original_inputs(run, indices, *rest)

        def spoiled(run, outputs):
            noted["calls"] += 1
            losses = original(run, outputs)
            if noted["calls"] == call:
                noted["examples"] = noted["indices"]
                noted["weights"] = [value.clone() for value in run.student.parameters()]
                if how == "loss":
                    losses["dark_knowledge"] = losses["dark_knowledge"] * float("nan")
                else:
                    losses["dark_knowledge"].register_hook(lambda gradient: gradient * float("inf"))
            if noted["calls"] > call:
                pairs = zip(noted["weights"], run.student.parameters(), strict=True)
                noted["applied"] |= any(not torch.equal(before, now) for before, now in pairs)
            return losses

        monkeypatch.setattr(update, "batch_inputs", inputs_of)
        monkeypatch.setattr(update, "batch_losses", spoiled)
        return noted

    return arrange


@pytest.mark.parametrize(("how", "words"), [("loss", "dark_knowledge is nan"), ("gradient", "the gradient norm is not finite")])
@pytest.mark.parametrize("flags", [["--save_steps", 3, "--logging_steps", 8], ["--save_steps", 8, "--logging_steps", 3]])
def test_the_first_bad_step_is_left_out_and_named_at_the_next_reading(submit, spoil, tmp_path, how, words, flags):
    noted = spoil(4, how)
    ended = submit(*flags)
    assert ended.status == 2 and "Traceback" not in ended.err
    assert f"{words} at step 4, whose update was left out" in ended.last_line
    assert f"counted from 0: {', '.join(map(str, noted['examples']))};" in ended.last_line
    assert noted["calls"] == 6 and not noted["applied"]  # steps 5 and 6 still ran, on the weights of before
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-3"][: flags[1] == 3]


def test_a_bad_batch_spoils_the_update_that_it_is_part_of(submit, spoil):
    noted = spoil(4, "loss")  # the second of the second update's
    ended = submit("--gradient_accumulation_steps", 2, "--max_train_samples", 64, "--logging_steps", 4)
    assert "at step 2" in ended.last_line and not noted["applied"]
    examples = ended.last_line.split("counted from 0: ")[1].split(";")[0].split(", ")
    assert len(set(examples)) == 32 and max(map(int, examples)) < 70


def test_an_overflow_in_fp16_is_no_trouble_but_a_loss_is(submit, spoil, tmp_path):
    spoil(4, "gradient")
    assert submit("--fp16").status == 0
    weights = load_file(tmp_path / "out/model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_bad_loss_in_fp16_is_trouble(submit, spoil):
    spoil(4, "loss")
    assert "dark_knowledge is nan at step 4" in submit("--fp16").last_line


def test_logits_that_are_not_finite_are_no_predictions(run_script, save_bert, toy_glue, tmp_path):
    weights = load_file(save_bert(tmp_path / "bert", "RTE") / "model.safetensors")
    weights["classifier.weight"].fill_(3e38)
    save_file(weights, tmp_path / "bert/model.safetensors", metadata={"format": "pt"})
    ended = run_script(
        "scripts/finetune_teacher.py", "--model_name_or_path", tmp_path / "bert", "--output_dir", tmp_path / "bert",
        "--task_name", "RTE", "--data_dir", toy_glue, "--max_seq_length", 24, "--do_lower_case", "--do_eval",
    )
    assert ended.status == 2 and "logits are not finite; it has diverged" in ended.last_line
