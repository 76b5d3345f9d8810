"""Ctrl-C while a script imports its modules: one line and its status, from the first import on."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

# Runs a script. Prints a line as soon as the script imports the module that follows the one with the handlers.
STARTED = """
import runpy, sys

class Finder:
    def find_spec(self, name, *others):
        if name == "fsd.cli.arguments":
            sys.meta_path.remove(self)
            print("importing", flush=True)

sys.meta_path.insert(0, Finder())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def flags(rte_teacher, toy_glue, tmp_path):
    return ["--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_train",
            "--max_seq_length", 24, "--output_dir", tmp_path / "out", "--run_file", tmp_path / "runs"]


@pytest.mark.parametrize("delay", [0, 0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("script", ["run_glue_all.py", "scripts/finetune_teacher.py"])
def test_an_early_ctrl_c_is_one_line(flags, script, delay, tmp_path):
    beta = ["--beta", 0] if script == "run_glue_all.py" else []
    process = subprocess.Popen([sys.executable, "-c", STARTED, ROOT / script, *map(str, flags + beta)], cwd=tmp_path,
                               env=os.environ | {"PYTHONPATH": str(ROOT)},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "importing\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert (process.returncode, errors) == (130, f"{ROOT.joinpath(script).name}: stopped by SIGINT\n")


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py")]), ids=lambda path: path.name)
def test_each_script_sets_the_handlers_first(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from ")) and "import" in line]
    assert imports[0].startswith("import fsd.cli.early_signals")


def test_a_ctrl_c_while_a_library_is_imported_ends_the_program(tmp_path):
    """The library swallows every exception."""
    (tmp_path / "library.py").write_text("try:\n    import os; os.kill(os.getpid(), 2)\nexcept BaseException:\n    pass\n")
    program = "from fsd.system.errors import exit_on_input_error; exit_on_input_error(lambda: __import__('library'))"
    ended = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
                           capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "-c: stopped by SIGINT\n")
