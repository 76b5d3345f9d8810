"""Which program trains which method, and with which flags. Imports nothing heavy."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from fsd.cli.arguments import all_parser, baseline_parser, finetuning_parser, global_parser, intra_inter_parser, memory_parser
from fsd.cli.checks import check_training_flags, settle_baseline
from fsd.cli.settings import WITHOUT_INFLUENCE, identifying_flags
from fsd.cli.structure_flags import MEMORY_FLAGS, check_structures


@dataclass(frozen=True)
class Program:
    """A script, the function that makes its parser, the flags that make it train one method, and those that it then refuses.

    A weight of ``above_zero`` would make it another method if it were 0.
    """

    script: str
    parser: Callable
    flags: dict
    refused: frozenset = frozenset()
    above_zero: frozenset = frozenset()


RKD_WEIGHTS, RELEASED, BETA = {"rkd_distance", "rkd_angle"}, frozenset({"released_intra"}), frozenset({"beta"})
FORMS = {"debiased", "similarity"}
NO_TEACHER = frozenset({"alpha", "temperature", "beta", "cache_teacher", *RKD_WEIGHTS})
PROGRAMS = {
    "fine-tuning": Program("scripts/run_baseline.py", baseline_parser, {"method": "fine-tuning"}, NO_TEACHER),
    "KD": Program("run_glue_intra_inter.py", intra_inter_parser, {"beta": 0}, RELEASED | FORMS | {"internal", "do_layerwise"}),
    "PKD": Program("scripts/run_baseline.py", baseline_parser, {"method": "pkd"}, frozenset(RKD_WEIGHTS)),
    "RKD": Program("scripts/run_baseline.py", baseline_parser, {"method": "rkd"}, frozenset({"beta"})),
    "MiniLM": Program("scripts/run_baseline.py", baseline_parser, {"method": "minilm"}, frozenset(RKD_WEIGHTS)),
    "FSD_I": Program("run_glue_intra_inter.py", intra_inter_parser, {"internal": True}, above_zero=BETA),
    "FSD_L": Program("run_glue_intra_inter.py", intra_inter_parser, {"internal": False}, RELEASED, BETA),
    "FSD_G": Program("run_glue_global.py", global_parser, {}, frozenset({"do_layerwise"}), BETA),
    "FSD_IL": Program("run_glue_all.py", all_parser, {"gamma_g": 0}, frozenset(MEMORY_FLAGS), BETA | {"gamma_i", "gamma_l"}),
    "FSD_ILG": Program("run_glue_all.py", all_parser, {}, above_zero=BETA | {"gamma_i", "gamma_l", "gamma_g"}),
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
def actions(method):
    """Flag → argparse action, for the flags of a method that an experiment file may set: those that decide the result.

    All are numbers, switches or names out of a few; ``cache_teacher`` is a switch too, as the reproduction names the folder.
    """
    program = program_of(method)
    left_out = {"task_name", "seed", "copy_teacher", *program.flags, *program.refused, *(WITHOUT_INFLUENCE - HARMLESS)}
    return {action.dest: action for action in parser_of(method)._actions
            if action.dest not in left_out and (_is_switch(action) or action.type is not None or action.choices)}


def flag_names(method):
    """The names of :func:`actions`."""
    return actions(method).keys()


def takes_a_name(method, flag):
    """Whether a flag's values are names, as those of ``similarity``."""
    return bool(actions(method)[flag].choices)


def _is_switch(action):
    return action.const is True or action.dest == "cache_teacher"


def refusal(method, flag, value):
    """Why a method cannot be trained with this value of a flag; None if it can."""
    action = actions(method)[flag]
    if _is_switch(action):
        return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
    if action.choices:
        return None if value in action.choices else f"{value!r} is none of {', '.join(action.choices)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{value!r} is not a number"
    if flag in program_of(method).above_zero and value == 0:
        return f"without {flag} it is not {method}; give it a value above 0"
    if (method, flag, value) == ("KD", "alpha", 1):
        return "with alpha 1 there is no teacher; give it a value below 1"
    try:
        action.type(str(value))
    except ArgumentTypeError as error:
        return str(error)
    return None


def words(flags):
    """Flags (name → value) as words of a command line. False leaves a switch out."""
    given = [(f"--{name}", value) for name, value in flags.items() if value is not False]
    return [word for name, value in given for word in ([name] if value is True else [name, str(value)])]


@cache
def identity(method, task, arguments):
    """The flags that identify a run on a task with these words of a command line, a tuple, as its results row keeps them.

    Raises:
        InputError: the program would refuse them beside each other.
    """
    paths = ("--data_dir", ".", "--output_dir", ".")  # which identify no run
    args = parser_of(method).parse_args(("--task_name", task, *paths, *arguments), Namespace())
    check_training_flags(args)
    if program_of(method).parser is baseline_parser:
        settle_baseline(args)
    elif hasattr(args, "similarity"):
        check_structures(args)
    return identifying_flags(args)


@cache
def defaults(method):
    """Flag → default, for all flags of a method's program."""
    parser = parser_of(method)
    return {action.dest: parser.get_default(action.dest) for action in parser._actions if action.dest != "help"}


def is_same_run(method, row_flags, flags):
    """Whether a row's flags are these. A flag that an older row does not have counts with its default; older rows also have
    flags without influence.

    A row without any flags is of a version that did not tell them, so that nobody knows its settings.
    """
    own, known = defaults(method), bool(row_flags) and row_flags.keys() - WITHOUT_INFLUENCE <= flags.keys()
    return known and all(row_flags.get(name, own.get(name)) == value for name, value in flags.items())
