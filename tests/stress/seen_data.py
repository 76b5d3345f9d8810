"""A kind of input where a model, a memory or a cache has seen other data than the run's, rows that are held out of it too."""

from pathlib import Path

from trials import Trial, sound_flags

# Name of what was seen → its --data_dir, and the number of rows taken from it, if not all. "held" and "other" are two splits of
# "data" with held-out rows.
SEEN = {"all": ("data", None), "held": ("held", None), "other": ("other", None), "some": ("data", 9), "part": ("held", 9)}


def training_commands():
    """The commands whose outputs in seen/ this kind uses, as trials that must end well."""
    for seed, split in enumerate(("held", "other")):
        yield Trial("scripts/hold_out.py", "", sound_flags("scripts/hold_out.py") | {"output_dir": split, "seed": seed})
    for name, (data, rows) in SEEN.items():
        for script, what in (("scripts/finetune_teacher.py", "teacher"), ("train_memory.py", "memory")):
            given = sound_flags(script) | {"data_dir": data, "output_dir": f"seen/{what}-{name}"}
            yield Trial(script, "", given | ({"max_train_samples": rows} if rows else {}))
    for data in ("held", "other"):
        given = sound_flags("run_glue_intra_inter.py") | {"data_dir": data, "cache_teacher": "seen/cache"}
        yield Trial("run_glue_intra_inter.py", "", given | {"output_dir": f"seen/student-{data}"})


def seen(rng, folder):
    """What a run takes was made from the file that its data hold rows out of, from another split, or from other rows."""
    name = rng.choice(sorted(SEEN))
    role = rng.choice(("teacher", "teacher", "memory", "memory", "copy", "start", "base", "cache"))
    data = rng.choice(("data", "held", "held", "other"))
    if role == "cache":
        return swapped_caches(rng, data)
    script = {
        "teacher": rng.choice(("run_glue_intra_inter.py", "train_memory.py")), "base": "scripts/finetune_teacher.py",
        "memory": rng.choice(("run_glue_global.py", "run_glue_all.py")),
    }.get(role, "run_glue_intra_inter.py")
    given = sound_flags(script) | {"data_dir": data}
    if role == "memory":
        given["teacher_memory_path"] = f"seen/memory-{name}"
    else:
        flag = {"copy": "model_name_or_path_for_copy", "start": "student_model_name_or_path"}.get(role, "model_name_or_path")
        given |= {flag: f"seen/teacher-{name}"} | ({"copy_teacher": True} if role == "copy" else {})
    answer = verdict(name, data)
    if answer == "warned" and role in ("copy", "start", "base"):
        answer = "taken"  # from another task, mostly
    trial = Trial(script, f"{role} that has seen {name}, trained on {data}: {answer}", given, case=role)
    if answer == "refused":
        trial.status, trial.says = 2, "it has seen them"
    elif answer == "warned":
        trial.status, trial.says = 0, "WARNING .* was trained on other rows"
    elif answer == "silent":
        trial.status, trial.hushed = 0, "other rows|it has seen"
    return trial


def verdict(name, data):
    """What the documentation says: refused, warned or silent."""
    source, rows = SEEN[name]
    if data != "data" and source != data:
        return "refused"
    return "silent" if source == data and rows is None else "warned"


def swapped_caches(rng, data):
    """Caches of two splits under each other's names."""
    data = "held" if data == "data" else data
    given = sound_flags("run_glue_intra_inter.py") | {"data_dir": data}
    if rng.random() < 0.5:
        first, second = sorted(Path("seen/cache").glob("*/"))
        given["cache_teacher"] = "seen/cache"
    else:
        first, second = (next(Path(split, "RTE/cached_encodings").glob("train-*")) for split in ("held", "other"))
    first.rename("third")
    second.rename(first)
    Path("third").rename(second)
    return Trial("run_glue_intra_inter.py", f"{first} and {second} swapped", given, case="cache", status=0,
                 outputs_of="the same command")
