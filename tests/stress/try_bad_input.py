"""Give every program bad input, and report answers that are neither a good run nor one clear error line.

    python tests/stress/try_bad_input.py --inputs 2500 --seed 42
    python tests/stress/try_bad_input.py --only config:17 --keep bad      # one input again; keeps its folder in bad/

An input is a good folder (data, teacher, student, memory, caches, results) with one damaged file or files of others, a command
line with odd values, or a machine with a wrong clock, without locks, or without a place for its messages. Each program runs
in its own process, with a time limit, a RAM limit and a small model. It must end with status 0 and complete files, or with
status 2, one error line that names a flag or a file, and no file lost, changed or half written. Files of others stay. Where
the fault should cost nothing, the outputs have the bits of a run without it. Some inputs are pickles that execute code when
they are loaded; no program may load them.
"""

import functools
import os
import random
import resource
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bad_inputs import KINDS
from forked import be_program, lead_nowhere, set_clock, take_locks_away
from judging import differences, listing, outputs, violations
from seen_data import training_commands
from trials import STUDENT_FLAGS, Trial, sound_flags

from fsd.cli.arguments import add_seed_argument
from fsd.cli.parser import Parser, number
from fsd.system.errors import InputError, exit_on_input_error

MEMORY_LIMIT = 8 << 30  # bytes of address space: what asks for more was not told before allocating


# ---- A good folder ----


def make_sound_folder(folder):
    """Make everything the programs use: data, teacher, student with a checkpoint, memory, caches, results, odd files."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    from fsd.glue.tasks import find_task
    from fsd.models.loading import name_labels

    os.chdir(folder)
    sound = {"train_rows": 20, "dev_rows": 8, "test_rows": 4, "tasks": None, "output_dir": "data"}
    run_well(Trial("scripts/make_toy_glue.py", "", sound))
    tokenizer = BertTokenizer.from_pretrained("data")
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=4, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=64, num_labels=2, initializer_range=0.5)
    name_labels(config, find_task("RTE"))
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained("teacher")
    tokenizer.save_pretrained("teacher")
    run_well(Trial("train_memory.py", "", sound_flags("train_memory.py") | {"output_dir": "memory"}))
    tokenizer.save_pretrained("memory")
    run_well(Trial("run_glue_global.py", "", STUDENT_FLAGS))
    for trial in training_commands():
        run_well(trial)
    for path in Path("data").rglob("cached_encodings"):
        for split in ("train", "dev", "test"):
            assert list(path.glob(f"{split}-*")), path
    os.mkfifo("fifo")
    os.symlink("loop", "loop")
    os.symlink("absent", "dangling")
    os.symlink("student/checkpoint-1", "link")
    os.symlink("results.csv", "linked.csv")
    for name, minor in (("null", 3), ("full", 7)):
        try:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        except PermissionError:  # only root can make devices
            os.mkfifo(name)


def run_well(trial):
    """Run a trial that must end well, in the current folder."""
    status, error = run(trial, Path.cwd(), 300)
    if status:
        raise InputError(f"{trial.script} does not run in a good folder: {error.strip()[-500:]}")


def copy_sound(source, target):
    """Make a copy to damage, with its links and special files."""
    def copy(name, to):
        there = os.lstat(name)
        if not stat.S_ISREG(there.st_mode):
            os.mknod(to, there.st_mode, there.st_rdev)
        else:
            shutil.copy2(name, to)
    shutil.copytree(source, target, symlinks=True, copy_function=copy)


# ---- Running and judging ----


def run(trial, folder, seconds):
    """Run a trial's program in ``folder`` in a forked process: (exit status, negative for a signal; standard error)."""
    reading, writing = os.pipe()  # a pipe, because the trial's size limit applies to files
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os.chdir(folder)
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor, what in enumerate((nothing, nothing, writing)):
                os.dup2(what, descriptor)
            if trial.unheard:  # the pipe stays open beside it, so that its end is the process's
                lead_nowhere(trial.unheard)
            else:
                os.close(writing)
            run_script(trial)
        finally:
            os._exit(99)  # the child must never go on as the parent
    os.close(writing)
    printed, deadline = [], time.monotonic() + seconds
    while select.select([reading], [], [], max(0, deadline - time.monotonic()))[0] and (block := os.read(reading, 1 << 16)):
        printed.append(block)
    late = time.monotonic() >= deadline
    if late:
        os.killpg(child, signal.SIGKILL)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return -signal.SIGALRM if late else status, b"".join(printed).decode("utf-8", "replace")


def run_script(trial):
    """Become the trial's program; never returns."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    if trial.file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (trial.file_limit, trial.file_limit))
    if trial.clock:
        set_clock(trial.clock)
    if trial.lock_error:
        take_locks_away(trial.lock_error)
    be_program(trial.script, trial.arguments, crashed=1)


_outputs = {}  # command line → outputs


def outputs_of(trial, sound):
    """The outputs that a trial must have."""
    if trial.outputs_of != "the same command":
        return outputs(sound / trial.outputs_of)
    command = (trial.script, *trial.arguments)
    if command not in _outputs:
        with tempfile.TemporaryDirectory(dir=sound.parent) as scratch:
            folder = Path(scratch) / "run"
            copy_sound(sound, folder)
            os.chdir(folder)
            run_well(Trial(trial.script, "", trial.flags, trial.attached))
            _outputs[command] = outputs(folder / trial.flags["output_dir"])
    return _outputs[command]


def try_one(kind, at, seed, sound, seconds, keep=None):
    """Make, run and judge input number ``at`` of a kind: (Trial, exit status, standard error, violations)."""
    rng = random.Random(f"{seed} {kind.__name__} {at}")
    with tempfile.TemporaryDirectory(dir=sound.parent) as scratch:
        folder = Path(keep) if keep else Path(scratch) / "run"
        copy_sound(sound, folder)
        os.chdir(folder)
        trial = kind(rng, folder)
        before = listing(folder)
        status, err = run(trial, folder, seconds)
        found = violations(trial, status, err, before, listing(folder))
        if status == 0 and trial.outputs_of:
            found += differences(outputs_of(trial, sound), outputs(folder / trial.flags["output_dir"]))
        os.chdir(sound)
        return trial, status, err, found


def import_everything():
    """Import what the programs import, once for all processes, and use one thread in each."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""}
    import matplotlib.pyplot  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torch
    import torch._dynamo  # noqa: F401
    from tensorboard.backend.event_processing import event_accumulator  # noqa: F401
    from transformers import AutoTokenizer, BertForSequenceClassification, BertTokenizer  # noqa: F401

    import fsd.cli.build_memory  # noqa: F401
    import fsd.cli.description
    import fsd.cli.distill
    import fsd.cli.experiment

    torch.set_num_threads(1)
    fsd.records.versions.commit = functools.cache(fsd.records.versions.commit)  # run git only once
    fsd.cli.description.commit = fsd.records.versions.commit
    fsd.records.versions.commit()


def main():
    parser = Parser(__doc__)
    parser.add_argument("--inputs", type=number(int, 1), default=2500, help="number of inputs over all kinds")
    parser.add_argument("--kinds", nargs="+", choices=[kind.__name__ for kind in KINDS], help="only these kinds")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="only this input; prints its program's standard error")
    parser.add_argument("--keep", help="with --only: keep the input's folder here")
    parser.add_argument("--seconds", type=number(float, above=0), default=60.0, help="time limit of a program")
    add_seed_argument(parser)
    args = parser.parse_args()
    import_everything()
    with tempfile.TemporaryDirectory() as scratch:
        sound = Path(scratch).resolve() / "sound"
        sound.mkdir()
        make_sound_folder(sound)
        by_name = {kind.__name__: kind for kind in KINDS}
        if args.only:
            name, at = args.only.split(":")
            keep = args.keep and Path(args.keep).resolve()
            trial, status, err, found = try_one(by_name[name], int(at), args.seed, sound, args.seconds, keep)
            print(f"{trial.script} {' '.join(trial.arguments)}\n{trial.what}\nstatus {status}\n{err}\n{found or 'fine'}")
            sys.exit(bool(found))
        chosen = [by_name[name] for name in args.kinds] if args.kinds else list(KINDS)
        sys.exit(try_all(chosen, args, sound))


def try_all(chosen, args, sound):
    """Try the inputs, print every violation and a table; returns 1 if there was any violation."""
    shares = sum(KINDS[kind] for kind in chosen)
    table, whole = [], []
    for kind in chosen:
        count, ended, start = max(1, round(args.inputs * KINDS[kind] / shares)), Counter(), time.monotonic()
        for at in range(count):
            trial, status, err, found = try_one(kind, at, args.seed, sound, args.seconds)
            end = "violations" if found else "worked" if status == 0 else "refused"
            for case in {"", trial.case}:
                ended[case, end] += 1
            for problem in found:
                print(f"{kind.__name__}:{at} {trial.script}, {trial.what!r}: {problem}"[:600], flush=True)
        for case in sorted({case for case, _ in ended}):
            numbers = [ended[case, end] for end in ("worked", "refused", "violations")]
            table.append((f"  {case}" if case else kind.__name__, sum(numbers), *numbers))
            whole += [numbers] if not case else []
        print(f"{kind.__name__}: {count} inputs, {time.monotonic() - start:.0f} s", flush=True)
    sums = [sum(column) for column in zip(*whole, strict=True)]
    print(f"\n{'kind':34} {'inputs':>7} {'worked':>7} {'refused':>8} {'violations':>11}")
    for row in [*table, ("all", sum(sums), *sums)]:
        print(f"{row[0]:34} {row[1]:7} {row[2]:7} {row[3]:8} {row[4]:11}")
    return int(sums[-1] > 0)


if __name__ == "__main__":
    exit_on_input_error(main)
