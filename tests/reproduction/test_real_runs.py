"""One experiment with the real scripts: their rows and files are what the plan expects of each method."""

import shutil

from conftest import ROOT
from made_up_workplace import short

from fsd.reproduction.cells import Workplace
from fsd.reproduction.experiment_file import checked
from fsd.reproduction.plan import Plan
from fsd.reproduction.programs import PROGRAMS, actions

WEIGHTS = {"beta": 0.5, "rkd_distance": 1, "gamma_i": 0.5, "gamma_l": 0.5, "gamma_g": 0.5}
WEIGHTS_OF = {name: {flag: value for flag, value in WEIGHTS.items() if flag in actions(name)} for name in PROGRAMS}


def test_the_real_scripts_leave_what_the_plan_expects(run_script, toy_glue, save_bert, tmp_path):
    data = shutil.copytree(toy_glue / "RTE", tmp_path / "gl ue/RTE").parent
    (data / "RTE/test.tsv").unlink()  # too short to be analysed
    base = save_bert(tmp_path / "small base", "RTE")
    experiment = checked({
        "tasks": ["RTE"], "methods": list(PROGRAMS), "seeds": [1], "memory": {"num_centroid": 3},
        "settings": {"max_seq_length": 24, "max_steps": 1, "do_lower_case": True, "mask_padding": True, "cache_teacher": True,
                     "per_gpu_train_batch_size": 16},
        "stages": [{"method": "FSD_ILG", "points": [WEIGHTS_OF["FSD_ILG"]]}],
    })

    workplace = Workplace(experiment, str(data), str(base), tmp_path / "re pro", False)

    def look():
        searched = Plan(workplace, ["RTE"], ["FSD_ILG"], [1]).look()
        return searched if searched.ready else Plan(workplace, ["RTE"], list(PROGRAMS), [1], {"RTE": WEIGHTS_OF}).look()

    ran = []
    while cells := look().ready:
        cell = cells[0]
        assert short(cell) not in ran, f"{cell.name} is not done after it ended well"
        ran.append(short(cell))
        analysed = cell.kind != "student" or cell.method == "FSD_G"
        for command in cell.commands if analysed else cell.commands[:1]:
            assert (ROOT / command[0]).is_file()
            finished = run_script(*command)
            assert finished.status == 0, finished.err
        if not analysed:
            (cell.folder / "model.safetensors").unlink()
    progress = look()
    assert all(count["all"] == count["done"] for count in progress.counts.values())
    assert len(list((tmp_path / "re pro/analysis").glob("*.json"))) == 2
