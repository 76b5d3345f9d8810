"""One bad input, and the flags with which each program succeeds in a good folder."""

import json
from dataclasses import dataclass, field
from pathlib import Path

LENGTH = 16
DISTILLING = ("run_glue_intra_inter.py", "run_glue_global.py", "run_glue_all.py")
MODELLED = (*DISTILLING, "train_memory.py", "scripts/finetune_teacher.py", "scripts/run_baseline.py")
CANARY = "canary"  # the file that a pickle makes if it is executed


@dataclass
class Trial:
    """One input: the program, its flags (None leaves one out, True is a switch), its fault, and what is known of the answer."""

    script: str
    what: str
    flags: dict = field(default_factory=dict)
    attached: bool = False  # --flag=value instead of --flag value
    case: str = ""  # a part of the kind that is counted by itself
    # The machine that the program meets:
    file_limit: int | None = None  # largest file in bytes, to imitate a full disk
    clock: float = 0.0  # seconds by which the clock is wrong
    lock_error: int = 0  # the errno of every lock
    unheard: dict = field(default_factory=dict)  # standard output (1) or error (2) → "closed", "full" or "gone"
    # The answer:
    status: int | None = None  # the only right exit status
    says: str = ""  # a pattern that standard error must have
    hushed: str = ""  # a pattern that standard error must not have
    kept: tuple = ()  # files and folders that must stay as they are
    untouched: bool = False  # nothing may be written, caches and logs neither
    outputs_of: str = ""  # if it ends well, its outputs are those of this folder, or of "the same command" in a good folder

    @property
    def arguments(self):
        """The command line."""
        words = []
        for name, value in self.flags.items():
            if value is None or value is False:
                continue
            values = [value] if isinstance(value, (str, bool)) else [str(value)]
            words += [f"--{name}"] if value is True else [f"--{name}={values[0]}"] if self.attached else [f"--{name}", *values]
        return words


def sound_flags(script):
    """Flags with which the script succeeds in a good folder."""
    if script == "scripts/hold_out.py":
        return {"task_name": "RTE", "data_dir": "data", "output_dir": "held"}
    if script == "scripts/make_small_bert.py":
        return {"vocab": "data/vocab.txt", "output_dir": "bert", "hidden_size": 8, "num_hidden_layers": 1}
    if script == "scripts/make_toy_glue.py":
        return {"output_dir": "toy", "tasks": "RTE", "train_rows": 5, "dev_rows": 5, "test_rows": 5}
    if script == "scripts/quickstart_report.py":
        return {"results_file": "results.csv", "run_file": "runs", "data_dir": "data", "figure": "figure.png"}
    flags = {
        "model_name_or_path": "teacher", "task_name": "RTE", "data_dir": "data", "output_dir": "out", "do_train": True,
        "max_seq_length": LENGTH, "run_file": "runs",
    }
    if script == "train_memory.py":
        return flags | {"num_centroid": 3}
    flags |= {"do_eval": True, "max_steps": 1}
    if script == "scripts/run_baseline.py":
        flags |= {"method": "minilm", "beta": 1, "skip_teacher_eval": True}
    if script in DISTILLING:
        flags |= {"beta": 1, "skip_teacher_eval": True}
    if script in DISTILLING[1:]:
        flags["teacher_memory_path"] = "memory"
    return flags


def kill_student():
    """Make the finished run in "student" one that was killed after its first step."""
    for path in (Path("student/training_args.json"), Path("student/checkpoint-1/training_args.json")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": False}))
    for name in ("model.safetensors", "student_memory.safetensors", "eval_results.txt", "predictions/RTE.tsv"):
        Path("student", name).unlink()


# Flags of the finished run in the folder "student", which has a checkpoint.
STUDENT_FLAGS = sound_flags("run_glue_global.py") | {
    "output_dir": "student", "cache_teacher": "cache", "do_predict": True, "max_steps": 2, "save_steps": 1,
}
