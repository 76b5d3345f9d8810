"""Experiment files: what they stand for, and one clear line for whatever is wrong in one."""

import pytest
from conftest import ROOT

from fsd.reproduction.chosen import read_chosen, write_chosen
from fsd.reproduction.experiment_file import read_experiment
from fsd.reproduction.programs import PROGRAMS
from fsd.system.errors import InputError

EXPERIMENTS = sorted((ROOT / "scripts/experiments").glob("*.toml"))
HEAD = 'tasks = ["RTE", "STS-B"]\nmethods = ["KD", "FSD_I"]\nseeds = [1, 2]\n'
KD = '[[stages]]\nmethod = "KD"\n'
FSD_I = '[[stages]]\nmethod = "FSD_I"\n'


@pytest.fixture
def read(tmp_path):
    """Call ``read(text)``: the experiment of a file with this text."""

    def read_text(text):
        path = tmp_path / "experiment.toml"
        path.write_text(text)
        return read_experiment(path)

    return read_text


BAD = {
    "no TOML": ("tasks = [", "TOML"),
    "an unknown key": (HEAD + "sedes = [1]", "'sedes'; did you mean 'seeds'?"),
    "no tasks": (HEAD.replace("tasks", "#"), "tasks is missing"),
    "empty tasks": (HEAD.replace('["RTE", "STS-B"]', "[]"), "tasks is missing, empty"),
    "tasks that are numbers": (HEAD.replace('["RTE", "STS-B"]', "[1]"), "not a list of names"),
    "a task that is none": (HEAD.replace("RTE", "SQuAD"), "'SQuAD' is not a GLUE task"),
    "a task twice": (HEAD.replace('"STS-B"', '"rte"'), "twice"),
    "a method that is none": (HEAD.replace('"KD"', '"FSD_X"'), "unknown method 'FSD_X'"),
    "a method twice": (HEAD.replace("FSD_I", "KD"), "twice"),
    "a seed that is a switch": (HEAD.replace("[1, 2]", "[true]"), "whole numbers"),
    "a seed below 0": (HEAD.replace("[1, 2]", "[-1]"), "at least 0"),
    "seeds that are no list": (HEAD.replace("[1, 2]", "1"), "whole numbers"),
    "settings that are no table": (HEAD + "settings = 5", "settings is not a table"),
    "an unknown setting": (HEAD + "[settings]\nlerning_rate = 1", "'lerning_rate'"),
    "a setting that is a text": (HEAD + '[settings]\nlearning_rate = "1"', "not a number"),
    "a setting out of range": (HEAD + "[settings]\nalpha = 2", "alpha: 2 is out of range"),
    "a setting that is no number": (HEAD + "[settings]\nalpha = nan", "alpha"),
    "a fraction of a batch": (HEAD + "[settings]\nper_gpu_train_batch_size = 1.5", "not a whole number"),
    "a number for a switch": (HEAD + "[settings]\nmask_padding = 1", "neither true nor false"),
    "a switch for a number": (HEAD + "[settings]\nalpha = true", "not a number"),
    "a setting of another task": (HEAD + "[teacher.MNLI]\nlearning_rate = 1e-5", "not among the tasks"),
    "a setting of no task": (HEAD + "[teacher.XYZ]\nlearning_rate = 1e-5", "'XYZ' is not a GLUE task"),
    "a teacher's flag that it lacks": (HEAD + "[teacher]\nbeta = 1", "'beta'"),
    "a teacher's task twice":
        (HEAD + "[teacher.RTE]\nlearning_rate = 1e-5\n[teacher.rte]\nlearning_rate = 1e-4", "names RTE twice"),
    "a memory's flag that is its students'": (HEAD + "[memory]\nmax_seq_length = 64", "max_seq_length: a memory takes it from"),
    "a memory's flag that it lacks": (HEAD + "[memory]\nbeta = 1", "'beta'"),
    "stages that are no list": (HEAD + "stages = 5", "stages is not a list"),
    "a stage that is no table": (HEAD + "stages = [1]", "stages is not a list of tables"),
    "a stage without a method": (HEAD + "[[stages]]\ngrid = {alpha = [0.5]}", "no method"),
    "a stage of no method": (HEAD + "[[stages]]\nmethod = [1]\ngrid = {alpha = [0.5]}", "unknown method [1]"),
    "an unknown key of a stage": (HEAD + KD + "gird = {alpha = [0.5]}", "'gird'"),
    "nothing to try": (HEAD + KD, "nothing to try"),
    "an empty grid": (HEAD + KD + "grid = {alpha = []}", "grid of alpha is empty"),
    "a grid that is no list": (HEAD + KD + "grid = {alpha = 0.5}", "grid of alpha is empty or not a list"),
    "a name that is none of a flag's": (HEAD + '[settings]\nsimilarity = "cosine"', "'cosine' is none of cka, procrustes, gram"),
    "a number for a name": (HEAD + "[settings]\nsimilarity = 1", "1 is none of cka"),
    "a name in a grid that is none of its flag's": (HEAD + FSD_I + 'grid = {similarity = ["gram", "cos"]}', "'cos' is none"),
    "a table in a grid of names": (HEAD + FSD_I + "grid = {similarity = [{of = 1}]}", "a finer grid is written"),
    "a form that the method lacks": (HEAD + KD + 'grid = {similarity = ["gram"]}', "'similarity'"),
    "a grid that is no table": (HEAD + KD + "grid = 5\ntasks = {RTE = {grid = {alpha = [0.5]}}}", "grid is not a table"),
    "a flag that the method lacks": (HEAD + KD + "grid = {beta = [1]}", "'beta'"),
    "a value of a grid that is a list": (HEAD + KD + "grid = {alpha = [[1]]}", "not a number"),
    "a value of a grid out of range": (HEAD + KD + "grid = {alpha = [0.5, 2]}", "alpha: 2 is out of range"),
    "a text that is no reference": (HEAD + KD + 'grid = {alpha = ["half"]}', "neither a number nor a reference"),
    "KD without a teacher": (HEAD + KD + "grid = {alpha = [1]}", "no teacher"),
    "a weight of 0 that is KD": (HEAD + FSD_I + "grid = {beta = [0, 1]}", "not FSD_I"),
    "points that are no list": (HEAD + KD + "points = {alpha = 0.5}", "points is empty or not a list"),
    "points that are no tables": (HEAD + KD + "points = [0.5]", "points is not a table"),
    "no points": (HEAD + KD + "points = []", "points is empty"),
    "a flag in both": (HEAD + KD + "grid = {alpha = [0.5]}\npoints = [{alpha = 0.2}]", "both in the grid and in points"),
    "a task's own grid that is no table": (HEAD + KD + "grid = {alpha = [0.5]}\ntasks = {RTE = {grid = 5}}", "not a table"),
    "tasks of a stage that are no table": (HEAD + KD + "grid = {alpha = [0.5]}\ntasks = 5", "tasks is not a table"),
    "a stage's grid for another task": (HEAD + KD + "grid = {alpha = [0.5]}\ntasks = {MNLI = {grid = {}}}", "not among"),
    "a stage's task twice":
        (HEAD + KD + "grid = {alpha = [0.5]}\ntasks = {RTE = {grid = {}}, rte = {grid = {}}}", "names RTE twice"),
    "keep that is a text": (HEAD + KD + 'grid = {alpha = [0.5]}\nkeep = "alpha"', "keep is missing, empty or not a list"),
    "keep of lists": (HEAD + KD + "grid = {alpha = [0.5]}\nkeep = [[1]]", "not a list of names"),
    "keep of what it does not choose": (HEAD + KD + 'grid = {alpha = [0.5]}\nkeep = ["temperature"]', "keeps temperature"),
    "keep of what one point lacks":
        (HEAD + KD + 'points = [{alpha = 0.5}, {temperature = 5}]\nkeep = ["alpha"]', "keeps alpha"),
    "keep of what one task chooses":
        (HEAD + KD + 'grid = {alpha = [0.5]}\ntasks = {RTE = {grid = {temperature = [5]}}}\nkeep = ["temperature"]',
         "keeps temperature"),
    "a reference to a later stage":
        (HEAD + FSD_I + 'grid = {alpha = ["KD.alpha"]}\n' + KD + "grid = {alpha = [0.5]}", "refers to KD.alpha"),
    "a reference to itself": (HEAD + KD + 'grid = {alpha = ["KD.alpha"]}', "refers to KD.alpha"),
    "a reference to what one point lacks":
        (HEAD + KD + "points = [{alpha = 0.5}, {temperature = 5}]\n" + FSD_I + 'grid = {alpha = ["KD.alpha"]}', "KD.alpha"),
    "a reference whose value the flag cannot take":
        (HEAD + KD + "grid = {temperature = [5]}\n" + FSD_I + 'grid = {alpha = ["KD.temperature"]}', "out of range"),
    "a finer grid without factors": (HEAD + KD + "grid = {alpha = [{of = 'KD.alpha'}]}", "a finer grid is written"),
    "a finer grid of a number": (HEAD + KD + "grid = {alpha = [{of = 1, times = [1]}]}", "a finer grid is written"),
    "a finer grid with factors that are texts": (HEAD + KD + "grid = {alpha = [{of = 'KD.alpha', times = ['1']}]}", "finer grid"),
    "multiples of a name": (
        HEAD + FSD_I + "grid = {similarity = ['gram']}\n" + FSD_I + "grid = {beta = [{of = 'FSD_I.similarity', times = [3.5]}]}",
        "FSD_I.similarity is not a number"),
    "a finer grid with an unknown key": (HEAD + KD + "grid = {alpha = [{of = 'KD.alpha', time = [1]}]}", "'time'; did"),
    "a finer grid that leaves the range":
        (HEAD + KD + "grid = {alpha = [0.5]}\n" + KD + "grid = {alpha = [{of = 'KD.alpha', times = [3, 4]}]}", "out of range"),
    "a huge grid":
        (HEAD + KD + "grid = {" + ", ".join(f"{flag} = {list(range(1, 101))}" for flag in (
            "temperature", "num_train_epochs", "max_steps", "warmup_steps", "weight_decay")) + "}", "settings to try"),
    "variants that are no list": (HEAD + "variants = 5", "variants is not a list"),
    "no variants": (HEAD + "variants = []", "variants is empty"),
    "a variant of an unknown flag": (HEAD + "variants = [{batch = 8}]", "'batch'"),
    "a variant for a task": (HEAD + "variants = [{RTE = {alpha = 0.5}}]", "not among"),
    "a variant twice": (HEAD + "variants = [{alpha = 0.5}, {alpha = 0.5}]", "twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_told_in_one_line(read, tmp_path, name):
    text, words = BAD[name]
    with pytest.raises(InputError) as error:
        read(text)
    assert str(error.value).startswith(str(tmp_path / "experiment.toml")) and words in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a = " + b"[" * 100_000])
def test_a_file_that_cannot_be_read_is_told(tmp_path, content):
    path = tmp_path / "experiment.toml"
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match="cannot read it as TOML"):
        read_experiment(path)
    with pytest.raises(InputError, match="not a regular file"):
        read_experiment(tmp_path)


def test_a_flag_of_names_takes_them_in_settings_grids_points_and_references(read):
    experiment = read(
        HEAD + '[settings]\nsimilarity = "gram"\n' + FSD_I + 'grid = {similarity = ["cka", "procrustes"], beta = [3]}\n'
        + "[[stages]]\nmethod = 'FSD_G'\ngrid = {similarity = ['FSD_I.similarity'], beta = [1]}\n"
        + "points = [{student_memory_init = 'centroids'}]\n"
    )
    assert experiment.settings == {"": {"similarity": "gram"}}
    assert [own["similarity"] for own in experiment.stages[0].candidates("RTE")] == ["cka", "procrustes"]
    assert experiment.stages[1].candidates("RTE") == [
        {"student_memory_init": "centroids", "similarity": "FSD_I.similarity", "beta": 1}]
    assert experiment.stages[1].references == {("FSD_I", "similarity")}


def test_points_cross_the_grid_but_not_each_other(read):
    stage = read(HEAD + KD + "points = [{alpha = 0.5}, {alpha = 0.2}]\ngrid = {temperature = [5, 10]}").stages[0]
    assert stage.candidates("RTE") == [
        {"alpha": 0.5, "temperature": 5}, {"alpha": 0.5, "temperature": 10},
        {"alpha": 0.2, "temperature": 5}, {"alpha": 0.2, "temperature": 10},
    ]


def test_a_task_may_have_a_grid_of_its_own(read):
    stage = read(HEAD + FSD_I + "grid = {beta = [3], alpha = [0.5, 0.2]}\ntasks = {sts-b = {grid = {beta = [3, 10]}}}").stages[0]
    assert [len(stage.candidates(task)) for task in ("RTE", "STS-B")] == [2, 4]


def test_a_finer_grid_is_one_entry_of_several_values(read):
    finer = 'grid = {alpha = [0.1, {of = "KD.alpha", times = [0.5, 2]}]}'
    stages = read(HEAD + KD + "grid = {alpha = [0.5]}\n" + KD + finer).stages
    assert stages[1].candidates("RTE") == [{"alpha": 0.1}, {"alpha": ("KD.alpha", 0.5)}, {"alpha": ("KD.alpha", 2)}]
    assert stages[1].references == {("KD", "alpha")} and stages[0].references == set()


def test_a_finer_grid_in_a_point_is_tried_as_a_whole(read):
    points = 'points = [{alpha = {of = "KD.alpha", times = [0.5, 1]}}]'
    stage = read(HEAD + KD + "grid = {alpha = [0.5]}\n" + KD + points).stages[1]
    assert stage.candidates("RTE") == [{"alpha": ("KD.alpha", 0.5)}, {"alpha": ("KD.alpha", 1)}]


def test_values_of_a_finer_grid_may_leave_the_range_if_some_stay(read):
    finer = "grid = {alpha = [{of = 'KD.alpha', times = [0.5, 4]}]}"
    stages = read(HEAD + KD + "grid = {alpha = [0.5]}\n" + KD + finer).stages
    assert stages[1].candidates("RTE") == [{"alpha": ("KD.alpha", 0.5)}, {"alpha": ("KD.alpha", 4)}]


def test_a_task_may_be_written_in_any_case(read):
    experiment = read(HEAD.replace("STS-B", "stsb") + "[teacher.sts-b]\nlearning_rate = 1e-5")
    assert experiment.tasks == ("RTE", "STS-B") and experiment.teacher["STS-B"] == {"learning_rate": 1e-5}


def test_methods_need_the_stages_that_they_depend_on(read):
    experiment = read(HEAD.replace('"KD", "FSD_I"', '"FSD_ILG", "PKD"') + "".join([
        KD, 'grid = {alpha = [0.5], temperature = [5]}\nkeep = ["alpha"]\n',
        "[[stages]]\nmethod = 'PKD'\ngrid = {beta = [10]}\n",
        FSD_I, "grid = {beta = [3]}\n",
        "[[stages]]\nmethod = 'FSD_G'\ngrid = {beta = [1], gamma_m = [0.1]}\n",
        "[[stages]]\nmethod = 'FSD_G'\ngrid = {gamma_m = [{of = 'FSD_G.gamma_m', times = [1, 2]}]}\n",
        "[[stages]]\nmethod = 'FSD_ILG'\ngrid = {gamma_i = ['FSD_I.beta'], gamma_m = ['FSD_G.gamma_m']}\n",
    ]))

    def needed(*methods):
        return [stage.method for stage in experiment.needed_stages(methods)]

    assert needed("PKD") == ["KD", "PKD"]
    assert needed("FSD_ILG") == ["KD", "FSD_I", "FSD_G", "FSD_G", "FSD_ILG"]
    assert needed("fine-tuning") == ["KD"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_our_experiments_can_be_read(path):
    experiment = read_experiment(path)
    assert set(experiment.methods) <= set(PROGRAMS) and experiment.seeds == (1, 2, 3, 4, 5, 6)
    for stage in experiment.stages:
        for task in experiment.tasks:
            own = stage.candidates(task)
            assert own and len({tuple(sorted(map(str, one.items()))) for one in own}) == len(own)


def test_the_paper_s_first_stage_is_as_printed():
    stage = read_experiment(ROOT / "scripts/experiments/table2.toml").stages[0]
    assert (stage.method, len(stage.candidates("RTE"))) == ("KD", 54)
    assert stage.keep == ("alpha", "temperature", "num_train_epochs")


def test_small_is_fair():
    """Every method gets as many settings, and learning rate and epochs are among what varies."""
    experiment = read_experiment(ROOT / "scripts/experiments/small.toml")
    assert [stage.method for stage in experiment.stages] == list(experiment.methods)
    for task in experiment.tasks:
        assert {len(stage.candidates(task)) for stage in experiment.stages} == {4}
        for stage in experiment.stages:
            for flag in ("learning_rate", "num_train_epochs"):
                assert len({own[flag] for own in stage.candidates(task)}) == 2


def test_what_is_chosen_reads_back_and_other_tasks_stay(tmp_path):
    path = tmp_path / "chosen.toml"
    write_chosen(path, {"RTE": {"KD": {"alpha": 0.5, "num_train_epochs": 3}, "FSD_I": {"released_intra": True, "beta": 1e-7}}},
                 "held-out")
    write_chosen(path, {"STS-B": {"fine-tuning": {}}, "RTE": {"KD": {"alpha": 0.2}}}, "held-out")
    assert read_chosen(path) == ("held-out", {
        "RTE": {"FSD_I": {"released_intra": True, "beta": 1e-7}, "KD": {"alpha": 0.2}}, "STS-B": {"fine-tuning": {}},
    })
    names = {"RTE": {"FSD_G": {"similarity": "gram", "student_memory_init": "centroids"}}}
    write_chosen(tmp_path / "names.toml", names, "dev")
    assert read_chosen(tmp_path / "names.toml") == ("dev", names)
    path.write_text("# of my own\n" + path.read_text())
    before = path.read_text()
    write_chosen(path, {}, "held-out")  # a search that is not over any more
    write_chosen(path, {"RTE": {"KD": {}}}, "held-out")  # another experiment, without a search
    write_chosen(path, {"RTE": {"KD": {}}}, "dev")
    write_chosen(path, {"RTE": {}}, "dev")  # one on other data that has not chosen anything
    write_chosen(path, {"RTE": {"KD": {"alpha": 0.2}}}, "held-out")  # nothing new
    assert path.read_text() == before
    write_chosen(path, {"RTE": {"KD": {"alpha": 0.2}}}, "dev")  # never beside values that other data chose
    assert read_chosen(path) == ("dev", {"RTE": {"KD": {"alpha": 0.2}}})


@pytest.mark.parametrize(("text", "words"), [
    ("a = [", "TOML"), ("", "selected_on"), ("selected_on = 'test'", "selected_on"),
    ("selected_on = 'dev'\nRTE = 5", "RTE is not a table"),
    ("selected_on = 'dev'\nRTE = {KD = 5}", "RTE.KD is not a table"),
    ("selected_on = 'dev'\nXYZ = {}", "'XYZ' is not a GLUE task"),
    ("selected_on = 'dev'\nRTE = {FSD_X = {}}", "unknown method 'FSD_X'"),
    ("selected_on = 'dev'\nRTE = {KD = {beta = 1}}", "unknown key 'beta'"),
    ("selected_on = 'dev'\nRTE = {KD = {alpha = 'half'}}", "alpha"),
])
def test_a_bad_file_of_chosen_values_is_told(tmp_path, text, words):
    path = tmp_path / "chosen.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_chosen(path)
    assert str(error.value).startswith(str(path)) and words in str(error.value)
