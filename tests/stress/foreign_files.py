"""Kinds of input with files of others in the folders that a run writes into: they must stay as they are."""

import shutil
from pathlib import Path

from trials import DISTILLING, STUDENT_FLAGS, Trial, kill_student, sound_flags


def foreign(rng, folder):
    """Another program's or the user's files in an output folder that is new, overwritten, resumed, or evaluated in."""
    command = rng.choice(("new", "new", "overwritten", "overwritten", "resumed", "named", "evaluated", "memory"))
    script = {"memory": "train_memory.py", "resumed": "run_glue_global.py", "named": "run_glue_global.py"}.get(command)
    script = script or rng.choice((*DISTILLING, "scripts/finetune_teacher.py"))
    if command == "new" and rng.random() < 0.3:
        script = "train_memory.py"
    given = STUDENT_FLAGS.copy() if script == "run_glue_global.py" else sound_flags(script)
    given |= {"do_predict": True} if script != "train_memory.py" else {}
    given["output_dir"] = "out" if command == "new" else "memory" if command == "memory" else "student"
    if script != "train_memory.py" and command in ("new", "overwritten"):
        given |= {"max_steps": 3, "save_steps": 1}  # saves checkpoints 1 and 2
    if command in ("new", "overwritten", "memory"):
        given["overwrite_output_dir"] = command != "new" or rng.random() < 0.7
        given |= {"teacher_memory_path": "other"} if "teacher_memory_path" in given and command == "memory" else {}
    if command in ("resumed", "named"):
        kill_student()
        how = {"resume": True} if command == "resumed" else {"student_model_name_or_path": "student/checkpoint-1"}
        given |= how | {"save_total_limit": rng.choice((1, 3))}
    if command == "evaluated":
        given |= {"do_train": None, "cache_teacher": None, "eval_all_checkpoints": rng.random() < 0.5, "max_steps": None}
    out = Path(given["output_dir"])
    out.mkdir(exist_ok=True)
    more = {"out": (another_programs_model,) * 2, "student": (linked_files,)}.get(given["output_dir"], ())
    put = rng.choice((*CONTENTS, *more))
    what, *kept = put(rng, out)
    right = "student" if command in ("resumed", "named") else "the same command"
    says = {"cached": "cache_teacher"}.get(put.__name__)
    if says and script in DISTILLING and command != "evaluated":
        given[says] = "cache"
    return Trial(script, f"{what} in {out}, {command}", given, case=put.__name__, kept=tuple(kept), outputs_of=right)


def another_programs_checkpoint(rng, out):
    """A checkpoint-N such as transformers' Trainer writes."""
    place = out / f"checkpoint-{rng.choice((2, 2, 500, 10**9) if out.name == 'student' else (1, 2, 2, 500))}"
    shutil.copytree("teacher", place)
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin", "trainer_state.json"):
        (place / name).write_text("{}")
    if rng.random() < 0.2:
        (place / "training_state.json").write_text("{}")
    return place.name, str(place)


def another_programs_model(rng, out):
    """A model with a record that only has our record's name; nothing of ours in the folder."""
    kept = []
    for name in rng.sample(("config.json", "model.safetensors", "tokenizer.json", "eval_results.txt"), rng.randint(1, 4)):
        (out / name).write_text("another program's")
        kept.append(f"{out}/{name}")
    if rng.random() < 0.6:
        (out / "training_args.json").write_text(rng.choice(('{"learning_rate": 1e-5}', "{}", "[]", "null", '{"run": 1}', "")))
        kept.append(f"{out}/training_args.json")
    return f"{len(kept)} files of another program", *kept


def predictions(rng, out):
    """The user's files among the predictions."""
    place = out / "predictions" / rng.choice(("mine.tsv", "RTE.tsv.bak", "notes/RTE.tsv", ".hidden"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("mine")
    return str(place), str(place)


def readme(rng, out):
    """A README.md that the user wrote, linked to, or linked to what is not there now."""
    path = out / "README.md"
    path.unlink(missing_ok=True)
    how = rng.choice(("a file", "a file", "empty", "a link", "a broken link", "a folder", "not UTF-8"))
    if how == "a link":
        Path("mine").mkdir()
        Path("mine/README.md").write_text("mine")
        path.symlink_to(Path("../mine/README.md"))
    elif how == "a broken link":
        path.symlink_to(Path("../unmounted/README.md"))
    elif how == "a folder":
        path.mkdir()
        (path / "text").write_text("mine")
    else:
        path.write_bytes({"a file": b"mine\n", "empty": b"", "not UTF-8": b"\xff\xfemine"}[how])
    return f"{path}, {how}", str(path), "mine"


def own_files(rng, out):
    """The user's files and folders under names that are not ours, though some look alike."""
    names = ("notes.txt", "best/model.safetensors", "checkpoint-best/config.json", "checkpoint-1.bak/training_args.json",
             ".hidden", "checkpoint-x1/training_args.json", "model.safetensors.old", "checkpoint-1x", "tokenizer/tokenizer.json",
             "runs/events", "results.csv", "pytorch_model.bin", "training_args.bin", "checkpoint-", "checkpoint-２x",
             "checkpoint--1/training_args.json")
    kept = [out / name for name in rng.sample(names, 3)]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    link = out / "link"
    link.symlink_to(Path("../teacher"))
    return ", ".join(path.name for path in kept), *map(str, kept), str(link), "teacher"


def linked_checkpoint(rng, out):
    """A checkpoint that the user moved elsewhere and linked back."""
    Path("elsewhere").mkdir()
    place = out / "checkpoint-1"
    if out.name == "student" and rng.random() < 0.7:
        place.rename("elsewhere/checkpoint-1")
    else:
        place = out / "checkpoint-2"
        shutil.copytree("student/checkpoint-1", "elsewhere/checkpoint-1")
    moved = Path("elsewhere/checkpoint-1")
    place.symlink_to(moved.resolve() if rng.random() < 0.5 else Path("..") / moved)
    return f"{place} is a link", "elsewhere"


def linked_files(rng, out):
    """Files of a run that are links to files elsewhere."""
    Path("elsewhere").mkdir()
    names = ("config.json", "tokenizer.json", "training_args.json", "eval_results.txt", "model.safetensors")
    for name in names:
        if (out / name).exists():
            (out / name).rename(Path("elsewhere", name))
            (out / name).symlink_to(Path("../elsewhere", name))
    return "links to files", "elsewhere"


def cached(rng, out):
    """Files of others in the caches, and among TensorBoard's runs."""
    (entry,) = (path for path in Path("cache").iterdir() if path.is_dir())
    kept = [Path("data/RTE/cached_encodings/mine.safetensors"), Path("data/RTE/cached_encodings/train-16-mine.safetensors"),
            Path("cache/mine.npy"), entry / "mine.npy", Path("runs/mine/events"), Path("cache/mine/cache.json")]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    if rng.random() < 0.5:
        (entry / "cache.json").unlink()
    return "files in caches and runs", *map(str, kept)


def another_results_file(rng, out):
    """A results.csv that another program wrote."""
    Path("results.csv").write_text(rng.choice(("a,b\n1,2\n", "time,task\n1,2,3\n", "notes\n", "time\ttask\n")))
    return "another program's results.csv", "results.csv"


CONTENTS = (another_programs_checkpoint, another_programs_checkpoint, another_results_file, predictions, readme, own_files,
            linked_checkpoint, cached)
