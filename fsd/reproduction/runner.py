"""Running an experiment's cells: each in a process of its own, several side by side."""

import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fsd.glue.tasks import TASKS
from fsd.records.output_folder import checkpoints, remove_checkpoint
from fsd.reproduction.cells import PROJECT, STUDENT_FILES, Cell
from fsd.reproduction.chosen import write_chosen
from fsd.reproduction.programs import PROGRAMS
from fsd.reproduction.timing import Rates
from fsd.system.errors import InputError
from fsd.system.files import read_json, write_json
from fsd.system.logs import duration, progress_bar
from fsd.system.signals import Stopped, noting_signals

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
TASK_NAMES = {task.name for task in TASKS}


@dataclass
class Running:
    """A cell's process, the commands that follow, and its log with the place where this process began to write."""

    cell: Cell
    commands: tuple
    process: subprocess.Popen
    log: Path
    start: int


class Runner:
    """Runs what a :class:`fsd.reproduction.plan.Plan` has ready until nothing more can start.

    Args:
        plan: the plan.
        slots: environment variables of each place to run in: one for each GPU, or for each of several processes on CPUs.
        lock: a file descriptor that the processes inherit, so that a later call knows of those that outlive this one.
        keep_students: keep the weights of the final students.
    """

    def __init__(self, plan, slots, lock, keep_students):
        self.plan, self.slots, self.lock, self.keep_students = plan, slots, lock, keep_students
        self.output_dir = plan.workplace.output_dir
        self.running = {}  # slot → Running
        self.failed = {}  # cell's name → last line of its log
        self.ended = set()  # names of cells that ended with status 0
        self.earlier = self._failures_of_others()

    def run(self):
        """Run all cells; returns what failed: name of a cell, or of a search that chose nothing → why.

        Raises:
            Stopped: a signal arrived; the running cells have saved a checkpoint each, or a second one has ended them.
        """
        progress = self._look()
        with noting_signals() as signals, progress_bar(total=0, desc="cells", unit="cell") as bar:
            try:
                while True:
                    self._show(progress, bar)
                    self._start(progress)
                    if not self.running:
                        return self.failed | progress.stuck
                    while not signals and not self._poll():
                        time.sleep(POLL_SECONDS)
                    if signals:
                        raise Stopped(signals[0], ": the same command goes on from here")
                    progress = self._look()
            finally:
                self._stop(signals)  # also after an error, as a full disk

    def _look(self):
        """The plan's progress. A cell that ended well but left nothing counts as failed, so that it is not started for ever."""
        progress = self.plan.look(self.failed)
        if empty := {cell.name for cell in progress.ready} & self.ended:
            self.failed |= dict.fromkeys(empty, "it ended, but its results row or its files are not there")
            progress = self.plan.look(self.failed)
        running = {run.cell.name for run in self.running.values()}
        for cell in progress.leftovers:  # of calls that were killed before they cleaned up, or of --dry_run's lines
            if cell.name not in running:
                self._clean(cell)
        self._note(progress)
        return progress

    def _show(self, progress, bar):
        """Move the bar on."""
        counts = progress.counts.values()
        done = sum(count["done"] + count["failed"] for count in counts)
        bar.total = sum(count["all"] for count in counts)
        bar.update(done - bar.n)
        left = Rates(self.plan).seconds_left(progress) / len(self.slots)
        bar.set_postfix_str(f"{duration(left)} left" if left else "")
        if bar.disable:
            told = f"; the students to come train for {duration(left)}" if left else ""
            logger.info("%d of %d cells done%s", done, bar.total, told)

    def _start(self, progress):
        """Start ready cells in the free slots."""
        names = {run.cell.name for run in self.running.values()}
        ready = [cell for cell in progress.ready if cell.name not in names]
        for slot in range(len(self.slots)):
            if slot not in self.running and ready:
                cell = ready.pop(0)
                logger.info("starts %s", cell.name)
                self._launch(slot, cell, cell.commands)

    def _launch(self, slot, cell, commands):
        log = self.output_dir / "logs" / f"{cell.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            start = file.tell()
            process = subprocess.Popen(
                command_line(commands[0]), env=os.environ | self.slots[slot], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True, pass_fds=(self.lock,),
            )
        self.running[slot] = Running(cell, commands[1:], process, log, start)

    def _poll(self):
        """Look after the running processes; returns whether any cell has ended."""
        ended = False
        for slot, run in list(self.running.items()):
            if run.process.poll() is None:
                continue
            del self.running[slot]
            if run.process.returncode:
                self.failed[run.cell.name] = reason_of(run)
                logger.warning("%s failed: %s", run.cell.name, self.failed[run.cell.name])
                ended = True
            elif run.commands:
                self._launch(slot, run.cell, run.commands)
            else:
                self._clean(run.cell)
                self.ended.add(run.cell.name)
                ended = True
        return ended

    def _clean(self, cell):
        """Remove the weights of a student that is done, and its checkpoints."""
        if cell.kind == "student" and (len(cell.commands) == 1 or not self.keep_students):
            for name in STUDENT_FILES:
                (cell.folder / name).unlink(missing_ok=True)
            for _, path in checkpoints(cell.folder):
                remove_checkpoint(path)

    def _stop(self, signals):
        """End the running processes. Training saves a checkpoint first; a second signal ends it at once."""
        processes = [run.process for run in self.running.values()]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        if processes:
            logger.info("stops when the running cells have saved a checkpoint; a second Ctrl-C ends them at once")
        while any(process.poll() is None for process in processes):
            if len(signals) > 1:
                for process in processes:
                    process.kill()
            time.sleep(POLL_SECONDS)

    def _note(self, progress):
        """Write what is chosen so far and what failed."""
        plan = self.plan
        write_chosen(self.output_dir / "chosen.toml", progress.chosen, plan.selected_on)
        failed = {name.removeprefix("final/"): line for name, line in (self.failed | progress.stuck).items()}
        write_json(self.output_dir / "failed.json", self.earlier | failed)

    def _failures_of_others(self):
        """What failed.json tells of cells that are not this call's: of other tasks, methods or seeds."""
        path = self.output_dir / "failed.json"
        known = read_json(path) if path.exists() else {}
        if not isinstance(known, dict):
            raise InputError(f"{path} does not map cells to messages; move it away")
        seeds = {f"seed-{seed}" for seed in self.plan.seeds}

        def is_mine(name):
            task, *rest = name.split("/")
            if task in TASK_NAMES and rest and rest[0] in PROGRAMS:
                return task in self.plan.tasks and rest[0] in self.plan.methods and (len(rest) < 3 or rest[2] in seeds)
            return not set(self.plan.tasks).isdisjoint(name.split("/"))  # the search, a teacher: tried again where needed

        return {name: line for name, line in known.items() if not is_mine(name)}


def command_line(command):
    """The words of a command that starts one of the project's scripts."""
    return [sys.executable, str(PROJECT / command[0]), *command[1:]]


def shell_line(cell):
    """A cell as one line for a shell."""
    return " && ".join(shlex.join(command_line(command)) for command in cell.commands)


def reason_of(run):
    """Why a process failed: the last line that it wrote, and the signal that ended it if there was one."""
    with open(run.log, "rb") as file:
        file.seek(run.start)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    status, last = run.process.returncode, lines[-1].strip() if lines else "it wrote nothing"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}; before that: {last}"
    return last if lines else f"exit status {status}; {last}"


def slots_of(jobs):
    """Environment variables of each place to run in: ``jobs`` on each GPU, or on the CPU. They share out the CPU's cores."""
    import torch

    slots = [{}] * (jobs or 1)
    if gpus := torch.cuda.device_count():
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = named.split(",") if named else [str(number) for number in range(gpus)]
        slots = [{"CUDA_VISIBLE_DEVICES": name.strip()} for name in names[:gpus] for _ in slots]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [slot | {"OMP_NUM_THREADS": str(max(1, cores // len(slots)))} for slot in slots]


def counts_table(progress, rates):
    """The state of each stage, a line each: cells in all, done, failed, to come, and the hours that these take."""
    to_come = defaultdict(float)
    for entry in progress.to_come:
        to_come[entry[0]] += rates.seconds(entry) or 0
    lines = [f"{'stage':<24}{'cells':>7}{'done':>7}{'failed':>8}{'to come':>9}{'hours':>8}"]
    for stage, counts in progress.counts.items():
        rest = counts["all"] - counts["done"] - counts["failed"]
        hours = f"{to_come[stage] / 3600:.1f}" if to_come[stage] else ""
        lines.append(f"{stage:<24}{counts['all']:>7}{counts['done']:>7}{counts['failed']:>8}{rest:>9}{hours:>8}")
    total = sum(to_come.values())
    if total:
        lines.append(f"{total / 3600:.1f} hours of students in all, one after the other")
    elif progress.to_come:
        lines.append("no run is done yet, so the time is not known; --seconds_per_step gives a rate")
    return "\n".join(lines)
