"""One bad input, and the flags with which each program succeeds in a good folder."""

from dataclasses import dataclass, field

LENGTH = 16
DISTILLING = ("run_glue_intra_inter.py", "run_glue_global.py", "run_glue_all.py")
MODELLED = (*DISTILLING, "train_memory.py", "scripts/finetune_teacher.py")
CANARY = "canary"  # the file that a pickle makes if it is executed


@dataclass
class Trial:
    """One input: the program, its flags (None leaves one out, True is a switch), and its fault."""

    script: str
    what: str
    flags: dict = field(default_factory=dict)
    attached: bool = False  # --flag=value instead of --flag value
    file_limit: int | None = None  # largest file in bytes, to imitate a full disk

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
        return {"results_file": "results.csv", "run_file": "runs", "figure": "figure.png"}
    flags = {
        "model_name_or_path": "teacher", "task_name": "RTE", "data_dir": "data", "output_dir": "out", "do_train": True,
        "max_seq_length": LENGTH, "run_file": "runs",
    }
    if script == "train_memory.py":
        return flags | {"num_centroid": 3}
    flags |= {"do_eval": True, "max_steps": 1}
    if script in DISTILLING:
        flags |= {"beta": 1, "skip_teacher_eval": True}
    if script in DISTILLING[1:]:
        flags["teacher_memory_path"] = "memory"
    return flags


# Flags of the finished run in the folder "student", which has a checkpoint.
STUDENT_FLAGS = sound_flags("run_glue_global.py") | {
    "output_dir": "student", "cache_teacher": "cache", "do_predict": True, "max_steps": 2, "save_steps": 1,
}
