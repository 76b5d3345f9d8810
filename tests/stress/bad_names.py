"""Kinds of bad input in names: models, memories, checkpoints and data that are not there."""

import os
import shutil
from pathlib import Path

from trials import DISTILLING, MODELLED, STUDENT_FLAGS, Trial, kill_student, sound_flags

NAMED = {  # flag → what it may rightly name
    "model_name_or_path": ("teacher",), "tokenizer_name": ("teacher",), "config_name": ("teacher",),
    "data_dir": ("data", "data/RTE"), "student_model_name_or_path": ("student", "student/checkpoint-1"),
    "model_name_or_path_for_copy": ("teacher", "student/checkpoint-1"), "student_config_name": ("student/config.json", "student"),
    "teacher_memory_path": ("memory", "memory/memory.safetensors"),
}
NEEDED = {  # flag → files without which what it names is not whole
    "model_name_or_path": ("teacher/config.json", "teacher/model.safetensors", "teacher/tokenizer.json"),
    "data_dir": ("data/RTE/train.tsv", "data/RTE/dev.tsv", "data/RTE"),
    "teacher_memory_path": ("memory/memory.safetensors",),
    "student_model_name_or_path": (
        "student/checkpoint-1/training_state.json", "student/checkpoint-1/training_state.safetensors",
        "student/checkpoint-1/student_memory.safetensors", "student/checkpoint-1/model.safetensors", "student/checkpoint-1",
    ),
}


def names(rng, folder):
    """A name that is misspelt, or of something that is gone; beside --overwrite_output_dir, --resume, both or neither."""
    script = rng.choice((*DISTILLING, *DISTILLING[1:], "train_memory.py", "scripts/finetune_teacher.py"))
    given = sound_flags(script)
    flag = rng.choice([name for name in NAMED if knows(script, name)])
    if rng.random() < 0.5 and script in DISTILLING:
        flag = rng.choice(("student_model_name_or_path", "student_model_name_or_path", "teacher_memory_path"))
        script = script if knows(script, flag) else "run_glue_all.py"
        given = sound_flags(script)
    before = rng.choice(("nothing", "a finished run", "a finished run", "a killed run"))
    if before == "a killed run" and script == "run_glue_global.py":
        kill_student()
        given = STUDENT_FLAGS.copy()
    if before != "nothing":
        given["output_dir"] = "student" if script in DISTILLING else "teacher-run" if "scripts" in script else "built"
        if not Path(given["output_dir"]).exists():
            shutil.copytree("memory" if script == "train_memory.py" else "student", given["output_dir"])
        given["overwrite_output_dir"] = rng.random() < 0.8
        given["resume"] = rng.random() < 0.5
    given |= {"copy_teacher": True} if flag == "model_name_or_path_for_copy" else {}
    chance = rng.random()
    if flag in NEEDED and chance < 0.35:
        gone = Path(rng.choice(NEEDED[flag]))
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        given[flag] = "student/checkpoint-1" if flag.startswith("student") else given[flag]
        # With --resume the newest whole checkpoint wins, and there may be none.
        if flag.startswith("student") and gone.name != "checkpoint-1":
            given["resume"] = None
        what = f"--{flag} {given[flag]} without {gone}"
    elif flag == "student_model_name_or_path" and chance < 0.7:
        given[flag] = f"{given['output_dir']}/checkpoint-{rng.choice((2, 7, 10))}"
        what = f"--{flag} {given[flag]}, which is not there"
    elif flag == "teacher_memory_path" and chance < 0.5:
        given[flag] = rng.choice(("data", "teacher", "student", "runs", "teacher/config.json"))
        what = f"--{flag} {given[flag]}, which is no memory"
    else:
        given[flag] = misspelt(rng, rng.choice(NAMED[flag]))
        what = f"--{flag} {given[flag]}"
        if rng.random() < 0.1:
            os.symlink("absent", given[flag])
    how = " ".join(f"--{name}" for name in ("overwrite_output_dir", "resume") if given.get(name))
    return Trial(script, f"{what}; {before} in {given['output_dir']} {how}", given, case=flag, status=2, untouched=True)


def knows(script, flag):
    """Whether a program that trains has a flag for a name."""
    if flag == "teacher_memory_path":
        return script in DISTILLING[1:]
    return script in DISTILLING or script in MODELLED and "student" not in flag and "copy" not in flag


def misspelt(rng, name):
    """The name of nothing, one letter away."""
    while os.path.lexists(name):
        at = rng.randrange(len(name))
        name = name[:at] + rng.choice(("", name[at] * 2, "x", "_")) + name[at + rng.randint(0, 1) :]
        name = name.strip("/.") or "x"
    return name
