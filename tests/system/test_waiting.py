"""Signals while a process waits for one that does not come, or that does not answer any more."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from conftest import ROOT

from fsd.system import processes

PROGRAM = """
import os, sys, time
import torch
from fsd.system import processes, signals
from fsd.system.errors import exit_on_input_error

def main():
    say("start")
    with processes.process_group(torch.device("cpu")):
        say("connected")
        if os.environ["RANK"] == "1":
            time.sleep(60)  # the others wait for this one
        {wait}

def say(word):
    print(word, flush=True)

signals.PATIENCE, signals.REPEATED = {patience}, 0.3
exit_on_input_error(main)
"""
NUMBERS = [signal.SIGTERM, signal.SIGINT]


def test_a_collective_runs_on_the_stream_of_the_thread_that_asks(monkeypatch):
    noted = []

    @contextmanager
    def stream(given):
        noted.append(given)
        yield
        noted.append("left")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", threading.get_ident)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    processes._await(lambda: noted.append("collective"))
    assert noted == [threading.get_ident(), "collective", "left"]


@pytest.fixture
def start():
    """Call ``start(rank, wait, …)``: one of two processes, which is to run the code ``wait``; ended after the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def run(rank, wait="pass", patience=100):
        environment = os.environ | {
            "PYTHONPATH": str(ROOT), "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        started.append(subprocess.Popen([sys.executable, "-c", PROGRAM.format(wait=wait, patience=patience)], env=environment,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for(process, word):
    assert any(line == f"{word}\n" for line in process.stdout), process.stderr.read()
    time.sleep(0.5)  # now it waits


def ended(process):
    """The exit status and what the process printed to stderr; an error if it is still there after 30 seconds."""
    errors = process.communicate(timeout=30)[1]
    return process.returncode, [line for line in errors.splitlines() if "socket.cpp" not in line]  # a warning of PyTorch's


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_the_wait_for_a_process_that_does_not_come(start, number, rank):
    process = start(rank)
    wait_for(process, "start")
    process.send_signal(number)
    name = "-c" if rank == 0 else "-c, rank 1"
    assert ended(process) == (128 + number, [f"{name}: stopped by {number.name} while it waited for another process"])


@pytest.mark.parametrize(("wait", "number"), [
    ("processes.highest(0)", signal.SIGTERM), ("processes.every_process(torch.ones(2))", signal.SIGINT),
    ("processes.gather(torch.ones(1, 2), 2)", signal.SIGTERM),
])
def test_a_signal_ends_a_collective(start, wait, number):
    waiting, lost = start(0, wait), start(1)
    for process in (waiting, lost):
        wait_for(process, "connected")
    waiting.send_signal(number)
    assert ended(waiting) == (128 + number, [f"-c: stopped by {number.name} while it waited for another process"])


def test_while_training_a_second_signal_ends_the_wait(start):
    """The first does not: the other process may only be slow. Two at once are one that a launcher passed on."""
    waiting, lost = start(0, "with signals.noting_signals(): processes.highest(0)"), start(1)
    for process in (waiting, lost):
        wait_for(process, "connected")
    for number in (signal.SIGINT, signal.SIGTERM):
        waiting.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1)
    waiting.send_signal(signal.SIGTERM)
    assert ended(waiting) == (130, ["-c: stopped by SIGINT while it waited for another process"])


def test_while_training_one_signal_ends_a_wait_that_lasts_too_long(start):
    waiting, lost = start(0, "with signals.noting_signals(): processes.highest(0)", patience=0.5), start(1)
    for process in (waiting, lost):
        wait_for(process, "connected")
    waiting.send_signal(signal.SIGTERM)
    assert ended(waiting) == (143, ["-c: stopped by SIGTERM while it waited for another process"])
