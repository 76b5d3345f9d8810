"""Progress for people: a bar on a terminal, lines in a file."""

import os
import pty
import re
import subprocess
import sys
import termios

import pytest
from conftest import ROOT

from fsd.training.loss_log import LossLog


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


def test_memory_is_watched(run_script, resumable_flags, monkeypatch):
    monkeypatch.setattr(LossLog, "write", LossLog.write)  # the program replaces it; this puts it back
    flags = [*resumable_flags[:-3], "--logging_steps", 1, "--max_steps", 202, "--save_steps", 1000]
    ended = run_script("tests/stress/watch_memory.py", ROOT / "run_glue_intra_inter.py", *flags)
    assert ended.status == 0, ended.err
    assert re.search(r"RAM: [\d.]+ MB after 200 steps, [\d.]+ MB after 202", ended.out)


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


@pytest.fixture(params=["/dev/full", "a pipe that is closed", "nothing"])
def unheard(request):
    """Call ``unheard(command)``: the status of a command whose standard error cannot be written."""

    def run(command):
        # With PYTHONUNBUFFERED, Python would hold nothing back that it cannot write at the end.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        if request.param == "nothing":
            return subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command], env=environment).returncode
        reading, writing = os.pipe()
        os.close(reading)
        if request.param == "/dev/full":
            os.close(writing)
            writing = os.open("/dev/full", os.O_WRONLY)
        try:
            return subprocess.run(command, stderr=writing, env=environment).returncode
        finally:
            os.close(writing)

    return run


def test_a_log_that_cannot_be_written_costs_the_log_alone(command, unheard, tmp_path):
    assert unheard([*command, "--local_rank", "0"]) == 0  # warns before anything is read
    assert (tmp_path / "out/model.safetensors").exists() and (tmp_path / "results.csv").exists()


def test_an_error_that_cannot_be_told_keeps_its_status(command, unheard, tmp_path):
    assert unheard([*command, "--beta", "-1"]) == 2 and not (tmp_path / "out").exists()


OUTPUT = """
import sys
from fsd.system.errors import exit_on_input_error

def main():
    if sys.argv[1] == "out of memory":
        import torch
        torch.empty(10**15)
    print("line\\n" * int(sys.argv[1]))

exit_on_input_error(main)
"""


@pytest.mark.parametrize("lines", ["1", "100000"])
def test_an_output_that_nobody_reads_ends_the_program_without_a_word(lines):
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, "-c", OUTPUT, lines], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")  # as the shell tells an end by SIGPIPE


def test_an_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", OUTPUT, "1"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1 and "No space left" in ended.stderr


def test_memory_that_does_not_suffice_is_one_line():
    ended = subprocess.run([sys.executable, "-c", OUTPUT, "out of memory"], stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert "error: out of memory: " in ended.stderr and "take smaller batches" in ended.stderr
