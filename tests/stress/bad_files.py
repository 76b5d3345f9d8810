"""Kinds of bad input in all other files: data, memories, caches, results and what a run left."""

import csv
import os
from pathlib import Path

from spoiling import merge, spoil_bytes, spoil_json, spoil_tensors
from trials import DISTILLING, STUDENT_FLAGS, Trial, sound_flags


def tsv(rng, folder):
    """A damaged data file of any task and split."""
    task = rng.choice(("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"))
    path = rng.choice(sorted((folder / "data" / task).glob("*.tsv")))
    script = rng.choice(("scripts/finetune_teacher.py", "scripts/finetune_teacher.py", "scripts/hold_out.py"))
    if task == "RTE" and rng.random() < 0.5:
        script = rng.choice(("run_glue_intra_inter.py", "train_memory.py"))
    chance = rng.random()
    if chance < 0.5:
        what = spoil_bytes(rng, path)
    elif chance < 0.55:
        path.unlink()
        os.mkfifo(path)
        what = f"{path}: a FIFO"
    else:
        lines = path.read_text(encoding="utf-8").split("\n")
        at = rng.randrange(len(lines))
        cells = lines[at].split("\t")
        cell = rng.randrange(len(cells))
        cells[cell : cell + 1] = rng.choice((
            [], [cells[cell]] * 2, ["\x85"], ["\r"], [""], ["9"], ["-1"], ["nan"], ["1e400"], ["5.0001"], ['"'], ["entailment "],
            [" "], ["١"], ["0x1"], ["label"], ["\u2028"],
        ))
        lines[at] = "\t".join(cells)
        path.write_text("\n".join(lines[: rng.choice((len(lines), at + 1))]), encoding="utf-8")
        what = f"{path}:{at + 1}: field {cell}"
    given = sound_flags(script) | {"task_name": task, "data_dir": rng.choice(("data", f"data/{task}"))}
    if script == "scripts/finetune_teacher.py":
        given["do_predict"] = True
    return Trial(script, what, given)


def memory(rng, folder):
    """A damaged teacher memory."""
    script = rng.choice(DISTILLING[1:])
    return Trial(script, spoil_tensors(rng, Path("memory", "memory.safetensors")), sound_flags(script))


def encodings(rng, folder):
    """A damaged cache of an encoding; the program makes a new one."""
    path = rng.choice(sorted(Path("data/RTE/cached_encodings").glob("*.safetensors")))
    what = spoil_tensors(rng, path)
    script = rng.choice(("run_glue_intra_inter.py", "train_memory.py", "scripts/finetune_teacher.py"))
    return Trial(script, what, sound_flags(script) | ({"do_predict": True} if script != "train_memory.py" else {}))


def teacher_cache(rng, folder):
    """A damaged cache of the teacher's outputs; the program makes a new one."""
    path = rng.choice(sorted(path for path in Path("cache").rglob("*") if path.suffix in (".npy", ".json")))
    if rng.random() < 0.7:
        what = spoil_json(rng, path) if path.suffix == ".json" else spoil_bytes(rng, path)
    else:
        path.unlink()
        what = f"{path}: {rng.choice(('missing', 'a folder', 'a FIFO'))}"
        if "folder" in what:
            path.mkdir()
        if "FIFO" in what:
            os.mkfifo(path)
    return Trial("run_glue_intra_inter.py", what, sound_flags("run_glue_intra_inter.py") | {"cache_teacher": "cache"})


def results(rng, folder):
    """A damaged results file, for a program that adds to it or reads it."""
    path = Path("results.csv")
    if rng.random() < 0.5:
        what = spoil_bytes(rng, path)
    else:
        rows = list(csv.reader(path.open()))
        row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
        rows[row][column] = rng.choice(("", "x", "nan", "1e400", "a\nb", '"', "../teacher", "KD", "FSD_I", "teacher", "=1+1"))
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        what = f"{path}: row {row}, column {column} is {rows[row][column]!r}"
    script = rng.choice(("run_glue_intra_inter.py", "scripts/finetune_teacher.py", "scripts/quickstart_report.py"))
    return Trial(script, what, sound_flags(script))


def resumed(rng, folder):
    """A run killed after its first step, with one damaged file, or resumed with another flag."""
    run, checkpoint = Path("student"), Path("student/checkpoint-1")
    for path in (run / "training_args.json", checkpoint / "training_args.json"):
        merge(path, finished=False)
    given = STUDENT_FLAGS | {"resume": True}
    if rng.random() < 0.3:
        given |= {"resume": None, "student_model_name_or_path": str(checkpoint), "output_dir": rng.choice(("student", "out"))}
    if rng.random() < 0.2:
        other = {"alpha": "1", "beta": "1", "seed": "1", "max_steps": "1", "cache_teacher": None, "max_seq_length": "24",
                 "mask_padding": True, "results_file": "x.csv"}
        name = rng.choice(sorted(other))
        given[name] = other[name]
        return Trial("run_glue_global.py", f"resumed with --{name} {given[name]}", given)
    name = rng.choice(("training_state.json", "training_state.safetensors", "model.safetensors", "student_memory.safetensors",
                       "training_args.json", "config.json", "../training_args.json"))
    path = Path(os.path.normpath(checkpoint / name))
    if rng.random() < 0.2:
        path.unlink()
        return Trial("run_glue_global.py", f"resumed: {path} missing", given)
    names = ("run", "finished", "settings", "arguments", "step", "seconds", "files")
    what = spoil_json(rng, path, names) if path.suffix == ".json" else spoil_tensors(rng, path)
    return Trial("run_glue_global.py", f"resumed: {what}", given)


def report(rng, folder):
    """A damaged run for quickstart_report.py: its settings, its TensorBoard file, its model."""
    path = rng.choice(("student/training_args.json", "student/config.json", "student/model.safetensors", "runs"))
    if path == "runs":
        path = rng.choice(sorted(file for file in Path("runs").rglob("*events*") if "FSD_G" in str(file)))
    path = Path(path)
    names = ("arguments", "data_dir", "max_seq_length", "tokenizer_name", "cache_dir", "do_lower_case")
    what = spoil_json(rng, path, names) if path.suffix == ".json" else spoil_bytes(rng, path)
    return Trial("scripts/quickstart_report.py", what, sound_flags("scripts/quickstart_report.py"))


def vocabulary(rng, folder):
    """A damaged vocabulary for make_small_bert.py."""
    path = Path("data/vocab.txt")
    entries = path.read_text().split("\n")
    if rng.random() < 0.6:
        what = spoil_bytes(rng, path)
    else:
        what = rng.choice(("twice", "no [UNK]", "blank lines", "a FIFO"))
        odd = {"twice": entries[:-1] * 2, "no [UNK]": [e for e in entries if e != "[UNK]"], "blank lines": ["", "", *entries]}
        if what == "a FIFO":
            path.unlink()
            os.mkfifo(path)
        else:
            path.write_text("\n".join(odd[what]))
    return Trial("scripts/make_small_bert.py", f"{path}: {what}", sound_flags("scripts/make_small_bert.py"))
