"""Whether a program answered a bad input as it should: with complete files, or with one clear line and nothing lost."""

import csv
import io
import json
import os
import re
import signal
from pathlib import Path

from same_files import content
from trials import CANARY, MODELLED


def listing(folder):
    """Path → content, link target or kind, for everything below ``folder``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = None if path.is_dir() else "special"
    return found


TEMPORARY = re.compile(r"\.fsd-tmp$|(^|/)\.saving-|\.partial$")
MAY_CHANGE = re.compile(r"(^|/)(cached_encodings|cache|new-cache|runs)(/|$)|\.lock$")
NAMES_SOMETHING = re.compile(r"--\w|[\w.-]+\.(tsv|json|safetensors|csv|txt|npy|png)\b|/")
DIVERGED = re.compile(r"lower --learning_rate|not finite")


def violations(trial, status, err, before, after):
    """The faults in how a trial ended, as sentences."""
    found = []
    lines = [line for line in err.replace("\r", "\n").split("\n") if line.strip()]
    if status == -signal.SIGALRM:
        found.append("did not end")
    elif status not in (0, 2):
        found.append(f"exit status {status}: {lines[-1] if lines else 'silent'}")
    if trial.status is not None and status != trial.status:
        found.append(f"exit status {status}, not {trial.status}: {lines[-1] if lines else 'silent'}")
    if trial.says and not re.search(trial.says, err):
        found.append(f"does not say {trial.says!r}: {lines[-1] if lines else 'silent'}")
    if trial.hushed and (said := re.search(trial.hushed, err)):
        found.append(f"says {said[0]!r}")
    lost = [name for name, content in before.items() if after.get(name, ...) != content and is_below(name, trial.kept)]
    if lost:
        found.append(f"files of others changed or removed: {', '.join(lost[:3])}")
    if trial.untouched and before != after:
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name, ...) != after.get(name, ...))
        found.append(f"changed before it was refused: {', '.join(changed[:3])}")
    if "Traceback" in err or "panicked" in err:
        found.append("a traceback")
    if any(CANARY in Path(name).parts for name in after):
        found.append("a pickle or a file's code was executed")
    if left := [name for name in after if TEMPORARY.search(name)]:
        found.append(f"left behind: {left[0]}")
    if status == 2 and 2 not in trial.unheard:
        found += refusal_violations(trial, lines, before, after)
    if status == 0:
        found += result_violations(trial, before, after)
    return found


def refusal_violations(trial, lines, before, after):
    found = []
    name = re.escape(Path(trial.script).name)
    errors = [line for line in lines if re.match(rf"{name}: error: .", line)]
    if len(errors) != 1 or errors[0] != lines[-1]:
        found.append(f"{len(errors)} error lines, ending: {lines[-1] if lines else 'silent'}")
    elif len(errors[0]) > 1000 or not NAMES_SOMETHING.search(errors[0].split("error: ", 1)[1]) or not errors[0].isprintable():
        found.append(f"an unclear line: {errors[0][:300]!r}")
    changed = [name for name, content in before.items() if after.get(name, ...) != content and not MAY_CHANGE.search(name)]
    if changed and not DIVERGED.search(lines[-1] if lines else ""):
        found.append(f"refused, yet changed or removed: {', '.join(changed[:3])}")
    new = [name for name in after if name not in before and not MAY_CHANGE.search(name) and after[name] is not None]
    if new and not DIVERGED.search(lines[-1] if lines else "") and trial.file_limit is None:
        found.append(f"refused, yet wrote: {', '.join(new[:3])}")
    return found + [f"half written: {name}" for name in new if not is_whole(name, after[name])]


def result_violations(trial, before, after):
    out = os.path.relpath(os.path.realpath(str(trial.flags.get("output_dir"))))
    found = [f"half written: {name}" for name, content in after.items()
             if before.get(name, ...) != content and isinstance(content, bytes) and not is_whole(name, content)]
    if trial.flags.get("do_train") and trial.script in MODELLED:
        weights = "memory.safetensors" if trial.script == "train_memory.py" else "model.safetensors"
        if not os.path.isabs(out) and not (Path(out, weights).is_file() and Path(out, "training_args.json").is_file()):
            found.append(f"no {weights} and training_args.json in {out}")
    for name, old in before.items():
        if after.get(name, ...) == old or MAY_CHANGE.search(name):
            continue
        files = isinstance(after.get(name), bytes) and isinstance(old, bytes)
        appended = files and after[name].startswith(old.rstrip(b"\n"))
        goes_on = trial.flags.get("resume") or str(trial.flags.get("student_model_name_or_path")).startswith(f"{out}/checkpoint-")
        may_replace = goes_on or trial.flags.get("overwrite_output_dir") or not trial.flags.get("do_train")
        ours = name == out or name.startswith(out + "/") and may_replace
        if name == "dangling" or trial.file_limit is not None and name.startswith("out"):
            continue
        if not (appended and old.startswith(b"time,task,method")) and not ours and old != b"":
            found.append(f"changed or removed: {name}")
    return found


def is_below(name, places):
    """Whether a path is one of these places or lies below one."""
    return any(name == place or name.startswith(f"{place}/") for place in places)


def outputs(folder):
    """Name → content of the files with a run's results."""
    names = ("model.safetensors", "memory.safetensors", "student_memory.safetensors", "eval_results.txt", "predictions/RTE.tsv")
    return {name: content(folder / name) for name in names if (folder / name).is_file()}


def differences(right, found):
    """Outputs that are not what they should be, as sentences."""
    return [f"other {name} than without the fault" for name in right if found.get(name) != right[name]]


def is_whole(name, content):
    """Whether a written file can be read again, with finite weights."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        if name.endswith(".safetensors"):
            return all(torch.isfinite(tensor).all() for tensor in load(content).values())
        if name.endswith(".json"):
            json.loads(content)
        if name.endswith(".csv"):
            return len({len(row) for row in csv.reader(io.StringIO(content.decode(), newline=""), strict=True)}) == 1
    except (SafetensorError, ValueError, csv.Error):
        return False
    return True
