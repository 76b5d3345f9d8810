"""Kinds of bad input in all other files: data, memories, caches, results and what a run left."""

import csv
import json
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
    what = spoil_tensors(rng, Path("memory", "memory.safetensors"))
    return Trial(script, what, sound_flags(script), outputs_of="the same command")


def forged(rng, folder):
    """A teacher memory with a right checksum of wrong content: counts, assignment, centroids or facts."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    from fsd.system.hashes import tensor_hash

    path = Path("memory/memory.safetensors")
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["memory"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    counts, centroids, assignment = tensors["counts"], tensors["centroids"], tensors["assignment"]
    one = torch.arange(len(counts)) == rng.randrange(len(counts))
    first = torch.arange(len(assignment)) == 0
    what, changes = rng.choice((
        ("one count more", {"counts": counts + one}), ("a count of 0", {"counts": counts * ~one}),
        ("negative counts", {"counts": -counts}), ("counts as numbers with a point", {"counts": counts.double()}),
        ("a count too many", {"counts": torch.cat([counts, counts[:1]])}), ("no counts", {"counts": counts[:0]}),
        ("counts moved", {"counts": counts + one.long() - one.roll(1).long()}),
        ("an example elsewhere", {"assignment": (assignment + first.long()) % len(counts)}),
        ("an example too few", {"assignment": assignment[1:]}),
        ("a cluster that is not there", {"assignment": assignment + first * 9}),
        ("a negative cluster", {"assignment": assignment - first * 9}), ("no assignment", {"assignment": assignment[:0]}),
        ("one NaN", {"centroids": centroids.where(torch.rand_like(centroids) < 0.9, torch.nan)}),
        ("infinity", {"centroids": centroids + torch.inf}), ("flat centroids", {"centroids": centroids.flatten(1)}),
        ("a centroid too few", {"centroids": centroids[1:]}), ("half precision", {"centroids": centroids.half()}),
        ("shorter", {"centroids": centroids[:, 1:]}), ("narrower", {"centroids": centroids[..., 1:]}),
        ("more examples", {"examples": facts["examples"] + 1}), ("another task", {"task": "QNLI"}),
        ("another layer", {"layer": facts["layer"] + 1}), ("a newer format", {"format": 3}),
        ("another teacher", {"teacher_hash": "0" * 64}),
    ))
    tensors |= {name: value.contiguous() for name, value in changes.items() if name in tensors}
    facts |= {name: value for name, value in changes.items() if name in facts}
    save_file(tensors, path, {"memory": json.dumps(facts | {"sha256": tensor_hash(tensors)})})
    script = rng.choice(DISTILLING[1:])
    return Trial(script, f"{path}: {what}", sound_flags(script), status=2, says="--teacher_memory_path")


def encodings(rng, folder):
    """A damaged cache of an encoding; the program makes a new one."""
    path = rng.choice(sorted(Path("data/RTE/cached_encodings").glob("*.safetensors")))
    what = spoil_tensors(rng, path)
    script = rng.choice(("run_glue_intra_inter.py", "train_memory.py", "scripts/finetune_teacher.py"))
    given = sound_flags(script) | ({"do_predict": True} if script != "train_memory.py" else {})
    return Trial(script, what, given, status=0, outputs_of="the same command")


def teacher_cache(rng, folder):
    """A damaged cache of the teacher's outputs; the program makes a new one."""
    path = rng.choice(sorted(path for path in Path("cache").rglob("*") if path.suffix in (".npy", ".json")))
    chance = rng.random()
    if chance < 0.3 and path.suffix == ".npy":
        what = f"{path}: {forge_entry(rng, path)}, with its checksum"
    elif chance < 0.75:
        what = spoil_json(rng, path) if path.suffix == ".json" else spoil_bytes(rng, path)
    else:
        path.unlink()
        what = f"{path}: {rng.choice(('missing', 'a folder', 'a FIFO'))}"
        if "folder" in what:
            path.mkdir()
        if "FIFO" in what:
            os.mkfifo(path)
    script = rng.choice(("run_glue_intra_inter.py", "run_glue_global.py"))
    given = sound_flags(script) | {"cache_teacher": "cache"}
    return Trial(script, what, given, status=0, outputs_of="the same command")


def forge_entry(rng, path):
    """Put an array of another shape or type into an entry of the teacher's cache, with a right checksum."""
    import numpy as np

    from fsd.system.hashes import file_hash

    array = np.load(path)
    what, other = rng.choice((
        ("a row too few", array[1:]), ("a row too many", np.concatenate([array, array[:1]])), ("no rows", array[:0]),
        ("float32", array.astype(np.float32)), ("flat", array.ravel()), ("int16", array.view(np.int16)), ("transposed", array.T),
    ))
    np.save(path, other)
    record = json.loads((path.parent / "cache.json").read_text())
    record["sha256"][path.stem] = file_hash(path)
    (path.parent / "cache.json").write_text(json.dumps(record))
    return what


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
    return Trial("run_glue_global.py", f"resumed: {what}", given, outputs_of="student")


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
