"""Which program trains which method, and with which flags. Imports nothing heavy."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from fsd.cli.arguments import all_parser, baseline_parser, finetuning_parser, global_parser, intra_inter_parser, memory_parser
from fsd.cli.checks import settle_baseline
from fsd.cli.settings import WITHOUT_INFLUENCE, identifying_flags


@dataclass(frozen=True)
class Program:
    """A script, the function that makes its parser, the flags that make it train one method, and those that it then refuses."""

    script: str
    parser: Callable
    flags: dict
    refused: frozenset = frozenset()


RKD_WEIGHTS, RELEASED = {"rkd_distance", "rkd_angle"}, frozenset({"released_intra"})
NO_TEACHER = frozenset({"alpha", "temperature", "beta", "cache_teacher", *RKD_WEIGHTS})
PROGRAMS = {
    "fine-tuning": Program("scripts/run_baseline.py", baseline_parser, {"method": "fine-tuning"}, NO_TEACHER),
    "KD": Program("run_glue_intra_inter.py", intra_inter_parser, {"beta": 0}, RELEASED),
    "PKD": Program("scripts/run_baseline.py", baseline_parser, {"method": "pkd"}, frozenset(RKD_WEIGHTS)),
    "RKD": Program("scripts/run_baseline.py", baseline_parser, {"method": "rkd"}, frozenset({"beta"})),
    "MiniLM": Program("scripts/run_baseline.py", baseline_parser, {"method": "minilm"}, frozenset(RKD_WEIGHTS)),
    "FSD_I": Program("run_glue_intra_inter.py", intra_inter_parser, {"internal": True}),
    "FSD_L": Program("run_glue_intra_inter.py", intra_inter_parser, {"internal": False}, RELEASED),
    "FSD_G": Program("run_glue_global.py", global_parser, {}),
    "FSD_IL": Program("run_glue_all.py", all_parser, {"gamma_g": 0}),
    "FSD_ILG": Program("run_glue_all.py", all_parser, {}),
}
TEACHER = Program("scripts/finetune_teacher.py", finetuning_parser, {})
MEMORY = Program("train_memory.py", memory_parser, {}, frozenset({"num_train_epochs", "save_steps"}))  # without effect there
WITH_MEMORY = {"FSD_G", "FSD_ILG"}
HARMLESS = {"save_steps", "logging_steps", "per_gpu_eval_batch_size", "no_cuda", "feature_cache_gb"}  # change no result


def program_of(method):
    """The :class:`Program` of a method, of "teacher" or of "memory"."""
    return {"teacher": TEACHER, "memory": MEMORY}.get(method) or PROGRAMS[method]


@cache
def parser_of(method):
    """The parser of a method's program."""
    return program_of(method).parser(None)


@cache
def flag_names(method):
    """The flags of a method that an experiment file may set: those that decide the result, and no names of files."""
    program = program_of(method)
    names = {action.dest for action in parser_of(method)._actions} - {"help", "task_name", "method", "seed", *program.flags}
    return frozenset(names - (WITHOUT_INFLUENCE - HARMLESS) - program.refused)


def words(flags):
    """Flags (name → value) as words of a command line. False leaves a switch out."""
    given = [(f"--{name}", value) for name, value in flags.items() if value is not False]
    return [word for name, value in given for word in ([name] if value is True else [name, str(value)])]


def identity(method, arguments):
    """The flags that identify a run of these words of a command line, as its results row keeps them."""
    args = parser_of(method).parse_args(arguments, Namespace())
    if program_of(method).parser is baseline_parser:
        settle_baseline(args)
    return identifying_flags(args)


def is_same_run(method, row_flags, flags):
    """Whether a row's flags are these. A flag that an older row does not have counts with its default."""
    parser = parser_of(method)
    return set(row_flags) <= set(flags) and all(row_flags.get(name, parser.get_default(name)) == v for name, v in flags.items())
