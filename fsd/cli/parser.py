"""argparse as the programs use it: errors of one line, numbers within their range. Imports nothing heavy."""

import argparse
import math
import sys

from fsd.glue.tasks import TASKS
from fsd.system.errors import InputError, one_line

MAX_INT32, MAX_FLOAT32 = 2**31 - 1, 3.4e38
LONGEST_NAME, LONGEST_PATH = 200, 3000  # bytes: file systems take 255 and 4096, and we add to names


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Descriptions as written, and the default of every flag that has one to tell."""

    def _get_help_string(self, action):
        untold = action.default is None or action.default is False or action.default == -1
        return action.help if untold else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, and which takes no abbreviated flags."""

    def __init__(self, description):
        super().__init__(description=description, allow_abbrev=False, formatter_class=HelpFormatter)

    def parse_known_args(self, args=None, namespace=None):
        flag = "1"
        for word in sys.argv[1:] if args is None else args:
            if not word or word.startswith("--") and word.endswith("="):
                self.error(f"argument {word[:-1] or flag}: its value is empty; give one, or leave it out")
            flag = word if word.startswith("--") else flag
            try:
                word.encode()
            except UnicodeEncodeError:  # results, logs and settings are UTF-8, and could not name it
                self.error(f"{word}: not UTF-8; rename the file or folder")
            if word.endswith("=--"):  # argparse takes that for an empty list of values
                self.error(f"argument {word[:-3]}: -- is not a value")
        parsed, rest = super().parse_known_args(args, namespace)
        for name, value in vars(parsed).items():
            size = len(value.encode()) if isinstance(value, str) else 0
            if size > LONGEST_PATH or size and max(len(part.encode()) for part in value.split("/")) > LONGEST_NAME:
                self.error(f"argument --{name}: {value[:40]}… is too long for the name of a file or folder")
        return parsed, rest

    def error(self, message):
        raise InputError(f"{one_line(message)} (see --help)")


def number(kind, minimum=-math.inf, maximum=None, above=None):
    """An argparse type: an int or a finite float within [minimum, maximum], strictly above ``above`` if given.

    Without a ``maximum`` it is what PyTorch holds for sure: that of int32 or float32.
    """
    if maximum is None:
        maximum = MAX_INT32 if kind is int else MAX_FLOAT32

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {'a whole' if kind is int else 'a'} number") from None
        if not (minimum <= value <= maximum and (above is None or value > above)):  # which holds for no NaN
            low = f"above {above} and " if above is not None else f"at least {minimum} and " if minimum > -math.inf else ""
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {low}at most {maximum}")
        return value

    return convert


def positive_or_unset(text):
    """An argparse type: −1 (not set) or a whole number of at least 1."""
    return -1 if text.strip() == "-1" else number(int, 1)(text)


def add_task_argument(group):
    """The task: one of the nine, or a file that describes one."""
    group = group.add_mutually_exclusive_group(required=True)
    group.add_argument("--task_name", help=f"one of {', '.join(task.name for task in TASKS)}, in any case")
    group.add_argument("--task_file", metavar="JSON",
        help="a task of your own in place of --task_name: a JSON file that names its files, columns, labels and metrics")
