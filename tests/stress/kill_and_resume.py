"""Kill runs at random moments, restart them until they finish, and compare them with uninterrupted runs.

    python tests/stress/kill_and_resume.py --kills 200 --output_dir kills

Fine-tunes a teacher, builds its memory and distils a student, all very small and on the built-in corpus: once without
interruption, then many times with SIGKILL, half of the time at a random moment and half of the time at a random file
operation. Each run writes all files anew (encodings, teacher cache, checkpoints, TensorBoard, final model, results.csv), so
that kills hit all of them. Files of others lie in the output folder, and some attempts have their clock set back or ahead. The
files of others must stay. A resumed run must end with the same bits in model, memory, metrics and predictions, the same
curves and one row in results.csv, and must do nothing when started once more. Exit status 1 if any run fails this.
"""

import csv
import logging
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import time
from collections import Counter
from pathlib import Path

from forked import be_program, set_clock
from same_files import compare_files

from fsd.cli.parser import Parser, number
from fsd.system.errors import InputError, exit_on_input_error

LONGEST_ATTEMPT = 300  # seconds, after which a run counts as hanging
WRITING_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}
FOREIGN = ("notes.txt", "README.md", "predictions/mine.tsv", "checkpoint-best/model.safetensors", "checkpoint-1.bak/config.json")
CLOCKS = (0, 0, 0, -3600, -20 * 365 * 86400, 30 * 86400)  # seconds by which an attempt's clock is wrong
VARYING_COLUMNS = {"time", "seconds", "output_dir", "run", "commit"}
VARYING_CURVES = {"train/examples_per_second", "memory/examples_per_second", "memory/seconds", "trained/seconds"}
PLACES = (  # part of a path → description
    ("cached_encodings", "the encodings"), ("cache/", "the teacher's cache"), ("checkpoint-", "a checkpoint"),
    ("clustering.", "the state between passes"), ("runs", "TensorBoard"), ("results.csv", "results.csv"),
    ("training_args.json", "the run's record"), ("out", "the final files"),
)


def main():
    parser = Parser(__doc__)
    parser.add_argument("--output_dir", required=True, help="a new folder for all runs")
    parser.add_argument("--kills", type=number(int, 1), default=200, help="number of kills")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="seed of the random moments; timing still varies")
    args = parser.parse_args()
    folder = Path(args.output_dir).resolve()
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"--output_dir {folder} is not empty; name a new folder")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    # Imported once: every attempt is a fork of this process.
    import fsd.cli.build_memory  # noqa: F401

    prepare(folder)
    runs = {name: Victim(folder, name) for name in ("teacher", "memory", "student")}
    for run in runs.values():
        run.run_alone()
    rng, hits, problems, finished = random.Random(args.seed), Counter(), [], 0
    while sum(hits.values()) < args.kills:
        run = runs[("student", "memory", "student", "teacher")[finished % 4]]
        hits += run.kill_until_finished(rng, args.kills - sum(hits.values()))
        problems += run.differences()
        finished += 1
    print(f"{sum(hits.values())} kills in {finished} runs, each finished and compared")
    for place, count in sorted(hits.items()):
        print(f"{count:6} {place}")
    print(f"{sum(run.wrong_clocks for run in runs.values())} attempts with a wrong clock")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print(f"{len(problems)} problems")
    sys.exit(bool(problems))


def prepare(folder):
    """Make the corpus and the pretrained model."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["--train_rows", 40, "--dev_rows", 16, "--test_rows", 8]
    must_end_well(folder, "scripts/make_toy_glue.py", ["--output_dir", folder / "glue", "--tasks", "RTE", *rows])
    must_end_well(folder, "scripts/make_small_bert.py", [
        "--vocab", folder / "glue/vocab.txt", "--output_dir", folder / "bert", "--hidden_size", 16, "--intermediate_size", 32,
        "--num_attention_heads", 2, "--num_hidden_layers", 4, "--max_position_embeddings", 32,
    ])


class Victim:
    """One command, with its uninterrupted run in ``NAME-alone`` and its killed run in ``NAME-killed``."""

    def __init__(self, folder, name):
        self.folder, self.name, self.planted, self.wrong_clocks = folder, name, set(), 0
        self.alone, self.killed = folder / f"{name}-alone", folder / f"{name}-killed"
        teacher, memory = folder / "teacher-alone/out", folder / "memory-alone/out"
        script, flags = {
            "teacher": ("scripts/finetune_teacher.py", [
                "--model_name_or_path", folder / "bert", "--do_eval", "--num_train_epochs", 2]),
            "memory": ("train_memory.py", [
                "--model_name_or_path", teacher, "--num_centroid", 8, "--memory_num_train_epochs", 5,
                "--memory_tolerance", 0, "--feature_cache_gb", 0, "--per_gpu_memory_train_batch_size", 1]),
            "student": ("run_glue_all.py", [
                "--model_name_or_path", teacher, "--teacher_memory_path", memory, "--cache_teacher", "cache", "--do_eval",
                "--do_predict", "--evaluate_during_training", "--num_train_epochs", 3, "--beta", 1, "--gamma_m", 0.01,
                "--gradient_accumulation_steps", 2]),
        }[name]
        if name != "memory":
            flags += ["--save_steps", 2, "--learning_rate", "1e-3"]
        self.script, self.flags = script, [
            "--task_name", "RTE", "--data_dir", "glue", "--output_dir", "out", "--do_train", "--do_lower_case",
            "--per_gpu_train_batch_size", 6, "--max_seq_length", 24, "--logging_steps", 3, "--resume", *flags,
        ]

    def run_alone(self):
        """Make the run to compare with, and note its time and its number of file operations."""
        shutil.copytree(self.folder / "glue", self.alone / "glue")
        start = time.perf_counter()
        self.events = must_end_well(self.alone, self.script, self.flags)
        self.seconds = time.perf_counter() - start

    def kill_until_finished(self, rng, most):
        """Kill at most ``most`` attempts, each resuming the last; returns the number of kills by place."""
        shutil.rmtree(self.killed, ignore_errors=True)
        shutil.copytree(self.folder / "glue", self.killed / "glue")
        self.planted.clear()
        hits, status = Counter(), -signal.SIGKILL
        while status == -signal.SIGKILL:
            moment = {}
            if sum(hits.values()) < most:
                at_event = rng.random() < 0.5
                moment = {"event": rng.randint(1, self.events)} if at_event else {"seconds": rng.uniform(0, self.seconds)}
            clock = rng.choice(CLOCKS)
            self.wrong_clocks += clock != 0
            self.plant()
            status, _, place = attempt(self.killed, self.script, self.flags, clock=clock, **moment)
            if status == -signal.SIGKILL:
                hits[f"{self.name}: {'at' if 'event' in moment else 'some time after'} {place}"] += 1
        if status:
            raise InputError(f"{self.name}: restarted, it ended with status {status}: {last_line(self.killed)}")
        return hits

    def plant(self):
        """Put files of others into the output folder, as soon as it is one of ours."""
        for name in FOREIGN if (self.killed / "out/training_args.json").exists() else ():
            path = self.killed / "out" / name
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.write_text("mine")
                self.planted.add(name)

    def dig_out(self):
        """Remove the files of others; returns those that did not stay as they were, as sentences."""
        found = []
        for name in sorted(self.planted - {"README.md"}):  # where the user has one, the run writes none
            path = self.killed / "out" / name
            if not path.exists() or path.read_text() != "mine":
                found.append(f"{name} was not left as it was")
                continue
            path.unlink()
            if path.parent != self.killed / "out" and not any(path.parent.iterdir()):
                path.parent.rmdir()
        if "README.md" in self.planted and (self.killed / "out/README.md").read_text() != "mine":
            found.append("README.md was not left as it was")
        if self.name == "memory":  # it has no model card
            (self.killed / "out/README.md").unlink(missing_ok=True)
        return found

    def differences(self):
        """Differences from the uninterrupted run, as a list of sentences."""
        found = self.dig_out()
        found += compare_files(self.alone / "out", self.killed / "out")
        rows = [self._rows(self.killed), self._rows(self.alone)]
        if rows[0] != rows[1]:
            found.append(f"results.csv has {rows[0]}, not {rows[1]}")
        if curves(self.killed) != curves(self.alone):
            found.append(f"the curves {curves(self.killed)} are not {curves(self.alone)}")
        before = {path: path.read_bytes() for path in (self.killed / "out").rglob("*") if path.is_file()}
        must_end_well(self.killed, self.script, self.flags)
        if before != {path: path.read_bytes() for path in (self.killed / "out").rglob("*") if path.is_file()}:
            found.append("the finished run, started once more, was changed")
        if "is finished" not in (self.killed / "log").read_text() or self._rows(self.killed) != rows[1]:
            found.append("the finished run, started once more, did not say that it is finished or has another row")
        return [f"{self.name}: {words}" for words in found]

    def _rows(self, folder):
        if self.name == "memory":
            return []
        with open(folder / "results.csv", newline="", encoding="utf-8") as file:
            return [{k: v for k, v in row.items() if k not in VARYING_COLUMNS} for row in csv.DictReader(file)]


def curves(folder):
    """{tag: [(step, value)]} of the run's only TensorBoard folder; measured times count as 0."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it reports each continuation
    runs = list((folder / "runs").iterdir())
    events = EventAccumulator(str(runs[0])).Reload()
    points = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"] if tag != "memory/examples_per_second"}
    return len(runs), {tag: [(p.step, 0 if tag in VARYING_CURVES else p.value) for p in line] for tag, line in points.items()}


# ---- Attempts ----


def attempt(folder, script, flags, event=None, seconds=None, clock=0):
    """Run a script in a fork, in ``folder``; kill it at its ``event``-th file operation or after ``seconds``.

    Its clock is wrong by ``clock`` seconds.

    Returns:
        (exit status, or minus the signal; number of file operations; place of the last one)
    """
    shared = mmap.mmap(-1, 4096)
    child = os.fork()
    if child == 0:
        run_in_child(folder, script, flags, shared, event, clock)
    start = time.perf_counter()
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        passed = time.perf_counter() - start
        if passed > LONGEST_ATTEMPT or seconds is not None and passed > seconds:
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.002)
    if seconds is None and time.perf_counter() - start > LONGEST_ATTEMPT:
        raise InputError(f"{script} hangs: {last_line(folder)}")
    count, length = struct.unpack_from("ii", shared)
    path = shared[8 : 8 + length].decode(errors="replace")
    place = next((words for part, words in PLACES if part in path), path.removeprefix(f"{folder}/") or "nothing")
    return os.waitstatus_to_exitcode(ended[1]), count, place


def run_in_child(folder, script, flags, shared, event, clock):
    """Run the script as ``__main__`` with its output in ``folder/log``; never returns."""
    os.chdir(folder)
    set_clock(clock)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    inside, count = f"{folder}/", 0

    def watch(name, arguments):
        nonlocal count
        if name not in WRITING_EVENTS and not (name == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        path = os.path.abspath(os.fsdecode(arguments[0])) if isinstance(arguments[0], (str, bytes)) else ""
        if not path.startswith(inside) or path == f"{inside}log":
            return
        count += 1
        name = path.removeprefix(inside).encode()[:4000]
        shared[: 8 + len(name)] = struct.pack("ii", count, len(name)) + name
        if count == event:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    be_program(script, flags, crashed=99)


def must_end_well(folder, script, flags):
    """Run a script without killing it; returns its number of file operations."""
    status, events, _ = attempt(folder, script, flags)
    if status:
        raise InputError(f"{script} ended with {status}: {last_line(folder)}")
    return events


def last_line(folder):
    """The last line that the attempt in ``folder`` printed."""
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


if __name__ == "__main__":
    exit_on_input_error(main)
