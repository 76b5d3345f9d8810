"""Progress for people: a bar on a terminal, lines in a file."""

import os
import pty
import subprocess
import sys
import termios

import pytest
from conftest import ROOT


@pytest.fixture
def command(toy_glue, rte_teacher, tmp_path):
    """A short run."""
    return list(map(str, [
        sys.executable, ROOT / "run_glue_intra_inter.py", "--model_name_or_path", rte_teacher, "--data_dir", toy_glue,
        "--task_name", "RTE", "--output_dir", tmp_path / "out", "--do_train", "--max_seq_length", 24, "--max_steps", 4,
        "--logging_steps", 2, "--run_file", tmp_path / "runs", "--results_file", tmp_path / "results.csv", "--skip_teacher_eval",
    ]))


def test_a_log_file_has_a_line_a_logging_step_and_no_control_characters(command):
    log = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr
    assert "\r" not in log and "\x1b" not in log and "it/s" not in log
    lines = [line for line in log.splitlines() if " of 4: loss " in line]
    assert [line.split("step ")[1].split(" of")[0] for line in lines] == ["1", "2", "4"]
    assert all("examples/s, " in line and line.endswith(" s left") for line in lines)


def test_a_terminal_has_a_bar(command):
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    run = subprocess.Popen(command, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while block := os.read(main, 4096):
            shown += block
    except OSError:  # Linux tells the end of a terminal so
        pass
    os.close(main)
    assert run.wait() == 0
    assert b"FSD_L on RTE: 100%" in shown and b" of 4: loss " not in shown, shown.decode()


@pytest.mark.parametrize("where", ["/dev/full", "a pipe that is closed"])
def test_a_log_that_cannot_be_written_costs_the_log_alone(command, where, tmp_path):
    if where == "/dev/full":
        with open(where, "w") as log:
            status = subprocess.run(command, stderr=log).returncode
    else:
        reading, writing = os.pipe()
        run = subprocess.Popen(command, stderr=writing)
        os.close(writing)
        os.close(reading)
        status = run.wait()
    assert status == 0 and (tmp_path / "out/model.safetensors").exists()
