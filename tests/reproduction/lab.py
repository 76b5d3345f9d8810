"""A reproduction on the toy corpus whose programs are stand-ins."""

import json
import shutil
from pathlib import Path

from conftest import ROOT

import fsd.reproduction.runner as runner_module

SCRIPTS = ("scripts/hold_out.py", "scripts/finetune_teacher.py", "scripts/run_baseline.py", "scripts/analyse.py",
           "run_glue_intra_inter.py")
EXPERIMENT = """
tasks = ["RTE"]
methods = ["fine-tuning", "KD"]
seeds = [1, 2]
[settings]
max_steps = 5
[[stages]]
method = "KD"
grid = {alpha = [0.2, 0.5]}
"""
CELLS = 10  # split, teacher of the search, KD twice; teacher, its analysis, two methods with two seeds


class Lab:
    """An experiment on the toy corpus, in a folder with a space; the scripts are stand-ins."""

    def __init__(self, folder, glue, run_script, monkeypatch):
        self.folder, self.glue, self.run_script, self.monkeypatch = folder, glue, run_script, monkeypatch
        self.output, self.project, self.log, self.go_on = folder / "re pro", folder / "pro ject", folder / "log", folder / "go on"
        self.base = folder / "base"
        self.base.mkdir()
        self.experiment = folder / "experiment.toml"
        self.experiment.write_text(EXPERIMENT)
        for name in SCRIPTS:
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(__file__).with_name("fake_program.py"), self.project / name)
        for name, value in (("ROOT", ROOT), ("ROOT_LOG", self.log), ("GO_ON", self.go_on)):
            monkeypatch.setenv(f"FAKE_{name}", str(value))
        monkeypatch.setattr(runner_module, "PROJECT", self.project)
        monkeypatch.setattr(runner_module, "POLL_SECONDS", 0.01)

    def words(self, *flags):
        return [self.experiment, "--data_dir", self.glue, "--model_name_or_path", self.base, "--output_dir", self.output, *flags]

    def run(self, *flags, **behaviour):
        """Call reproduce.py. ``behaviour``: what a script does whose command has this part in it, "__" for "/"."""
        told = {part.replace("__", "/"): does for part, does in behaviour.items()}
        self.monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(told))
        self.log.write_text("")
        return self.run_script("scripts/reproduce.py", *self.words(*flags))

    def started(self, what="started"):
        """The commands that the scripts were started with since the last call."""
        return [entry[1:] for entry in map(json.loads, self.log.read_text().splitlines()) if entry[0] == what]

    def failed(self):
        return json.loads((self.output / "failed.json").read_text())
