"""Run a script inside a forked child process; shared by the stress programs."""

import os
import runpy
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def be_program(script, arguments, crashed):
    """Run ``script`` (a path in the project) as ``__main__`` and exit with its status, or with ``crashed`` after a traceback."""
    sys.argv, status = [str(ROOT / script), *map(str, arguments)], 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = crashed
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
