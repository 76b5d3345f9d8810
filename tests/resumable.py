"""A small run that can be stopped and resumed."""

import os

from fsd.training import update


def resumable_command(teacher, data_dir, output_dir):
    """The flags of a small FSD_I run."""
    return [
        "--model_name_or_path", teacher, "--data_dir", data_dir, "--task_name", "RTE", "--do_lower_case", "--copy_teacher",
        "--per_gpu_train_batch_size", 16, "--max_seq_length", 24, "--output_dir", output_dir, "--do_train", "--do_eval",
        "--num_train_epochs", 2, "--learning_rate", "1e-3", "--skip_teacher_eval", "--internal", "--resume", "--save_steps", 4,
        "--logging_steps", 3, "--evaluate_during_training",
    ]


def stop_in_step(monkeypatch, step, number):
    """This signal comes while that step is being computed."""
    original, calls = update.batch_losses, 0

    def counted(run, outputs):
        nonlocal calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), number)
        return original(run, outputs)

    monkeypatch.setattr(update, "batch_losses", counted)


def assert_same_results(first, second):
    for name in ("model.safetensors", "eval_results.txt"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
