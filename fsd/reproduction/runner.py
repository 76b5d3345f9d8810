"""Running an experiment's cells: each in a process of its own, several side by side."""

import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from fsd.records.output_folder import checkpoints, remove_checkpoint
from fsd.reproduction.cells import PROJECT, STUDENT_FILES
from fsd.reproduction.timing import Rates
from fsd.system.files import write_json, write_text
from fsd.system.logs import duration, progress_bar
from fsd.system.signals import Stopped, noting_signals

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2


class Runner:
    """Runs what a :class:`fsd.reproduction.plan.Plan` has ready until nothing more can start.

    Args:
        plan: the plan.
        slots: environment variables of each place to run in: one for each GPU, or for each of several processes on CPUs.
        lock: a file descriptor that the processes inherit, so that a later call knows of those that outlive this one.
        keep_students: keep the weights of students that are analysed.
    """

    def __init__(self, plan, slots, lock, keep_students):
        self.plan, self.slots, self.lock, self.keep_students = plan, slots, lock, keep_students
        self.output_dir = plan.workplace.output_dir
        self.running = {}  # slot → (cell, commands that are left, process, log)
        self.failed = {}  # cell's name → last line of its log
        self.ended = set()  # names of cells that ended with status 0

    def run(self):
        """Run all cells; returns those that failed: name → last line of the log.

        Raises:
            Stopped: a signal arrived; the running cells have saved a checkpoint each.
        """
        progress = self.plan.look()
        self._note(progress)
        total = sum(counts["all"] for counts in progress.counts.values())
        with noting_signals() as signals, progress_bar(total=total, desc="cells", unit="cell") as bar:
            while True:
                self._start(progress)
                if not self.running:
                    return self.failed
                while not signals and not self._poll():
                    time.sleep(POLL_SECONDS)
                if signals:
                    self._stop()
                    raise Stopped(signals[0], ": the same command goes on from here")
                progress = self._look_again()
                self._note(progress)
                done = sum(counts["done"] + counts["failed"] for counts in progress.counts.values())
                bar.total = sum(counts["all"] for counts in progress.counts.values())
                bar.update(done - bar.n)
                left = Rates(self.plan).seconds_left(progress) / len(self.slots)
                bar.set_postfix_str(f"{duration(left)} left" if left else "")
                if bar.disable:
                    logger.info("%d of %d cells done%s", done, bar.total, f", {duration(left)} left" if left else "")

    def _look_again(self):
        """The plan's progress. A cell that ended well but left nothing counts as failed, so that it is not started for ever."""
        progress = self.plan.look(self.failed)
        if empty := {cell.name for cell in progress.ready} & self.ended:
            self.failed |= dict.fromkeys(empty, "it ended, but its results row or its files are not there")
            progress = self.plan.look(self.failed)
        return progress

    def _start(self, progress):
        """Start ready cells in the free slots."""
        names = {cell.name for cell, *_ in self.running.values()}
        ready = [cell for cell in progress.ready if cell.name not in names]
        for slot in range(len(self.slots)):
            if slot not in self.running and ready:
                cell = ready.pop(0)
                logger.info("starts %s", cell.name)
                log = self.output_dir / "logs" / f"{cell.name}.log"
                log.parent.mkdir(parents=True, exist_ok=True)
                self._launch(slot, cell, list(cell.commands), log)

    def _launch(self, slot, cell, commands, log):
        with open(log, "ab") as file:
            process = subprocess.Popen(
                command_line(commands[0]), env=os.environ | self.slots[slot], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True, pass_fds=(self.lock,),
            )
        self.running[slot] = cell, commands[1:], process, log

    def _poll(self):
        """Look after the running processes; returns whether any cell has ended."""
        ended = False
        for slot, (cell, commands, process, log) in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[slot]
            if process.returncode:
                self.failed[cell.name] = last_line(log) or f"exit status {process.returncode}"
                logger.warning("%s failed: %s", cell.name, self.failed[cell.name])
                ended = True
            elif commands:
                self._launch(slot, cell, commands, log)
            else:
                self._clean(cell)
                self.ended.add(cell.name)
                ended = True
        return ended

    def _clean(self, cell):
        """Remove the weights of a student that is done, and its checkpoints."""
        if cell.kind == "student" and (len(cell.commands) == 1 or not self.keep_students):
            for name in STUDENT_FILES:
                (cell.folder / name).unlink(missing_ok=True)
            for _, path in checkpoints(cell.folder):
                remove_checkpoint(path)

    def _stop(self):
        """End the running processes; training saves a checkpoint first."""
        for _, _, process, _ in self.running.values():
            process.send_signal(signal.SIGTERM)
        for _, _, process, _ in self.running.values():
            process.wait()

    def _note(self, progress):
        """Write what is chosen so far and what failed."""
        write_chosen(self.output_dir / "chosen.toml", progress.chosen, "dev" if self.plan.workplace.select_on_dev else "held-out")
        write_json(self.output_dir / "failed.json", self.failed)


def command_line(command):
    """The words of a command that starts one of the project's scripts."""
    return [sys.executable, str(PROJECT / command[0]), *command[1:]]


def shell_line(cell):
    """A cell as one line for a shell."""
    return " && ".join(shlex.join(command_line(command)) for command in cell.commands)


def last_line(log):
    """The last line of a log file that is not empty."""
    lines = [line for line in Path(log).read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def write_chosen(path, chosen, selected_on):
    """Write the chosen values as TOML."""
    lines = ["# The settings that the search chose. reproduce.py --chosen takes this file.", f'selected_on = "{selected_on}"', ""]
    for task, methods in chosen.items():
        for method, values in methods.items():
            lines += [f'["{task}"."{method}"]', *(f"{flag} = {_toml(value)}" for flag, value in values.items()), ""]
    write_text(path, "\n".join(lines))


def _toml(value):
    return str(value).lower() if isinstance(value, bool) else repr(value)


def slots_of(jobs):
    """Environment variables of each place to run in: each GPU, or ``jobs`` processes that share the CPU's cores."""
    import torch

    if gpus := torch.cuda.device_count():
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = named.split(",") if named else [str(number) for number in range(gpus)]
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names for _ in range(jobs or 1)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = jobs or 1
    return [{"OMP_NUM_THREADS": str(max(1, cores // jobs))}] * jobs


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
    lines.append(f"{total / 3600:.1f} hours of students in all, one after the other" if total else
                 "no run is done yet, so the time is not known; --seconds_per_step gives a rate")
    return "\n".join(lines)
