"""The baselines from the command line, and the relation differences that any distillation can log."""

import csv
import json

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsd.training import batch

BASELINES = {
    "fine-tuning": [], "pkd": ["--beta", 10], "rkd": ["--rkd_distance", 1, "--rkd_angle", 2], "minilm": ["--beta", 1],
}
RELATIONS = [f"relations/{kind}_{metric}" for kind in ("inter", "intra") for metric in ("euclidean", "cosine")]


@pytest.fixture
def train(run_script, toy_glue, rte_teacher, tmp_path):
    """Call ``train(script, name, flags…)``: six steps; returns what finished."""

    def run(script, name, *flags):
        return run_script(
            script, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_lower_case",
            "--per_gpu_train_batch_size", 8, "--max_seq_length", 24, "--output_dir", tmp_path / name, "--do_train", "--run_file",
            tmp_path / "runs" / name, "--copy_teacher", "--max_steps", 6, "--skip_teacher_eval", "--results_file",
            tmp_path / "results.csv", *flags,
        )

    return run


def curves(tmp_path, name):
    """{tag: [(step, value)]} of a run."""
    (folder,) = (tmp_path / "runs" / name).iterdir()
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize("mode", [[], ["--mask_padding", "--cache_teacher", "CACHE", "--bf16"]], ids=["plain", "everything on"])
def test_a_baseline_trains(train, tmp_path, method, mode):
    flags = [tmp_path / "cache" if word == "CACHE" else word for word in mode]
    if method == "fine-tuning":
        flags = [word for word in flags if word not in ("--cache_teacher", tmp_path / "cache")]
    finished = train("scripts/run_baseline.py", method, "--method", method, *BASELINES[method], "--logging_steps", 2, *flags)
    assert finished.status == 0, finished.err
    (row,) = csv.DictReader(open(tmp_path / "results.csv", newline=""))
    names = {"fine-tuning": "fine-tuning", "pkd": "PKD", "rkd": "RKD", "minilm": "MiniLM"}
    assert (row["method"], row["role"]) == (names[method], "student")
    columns = ("alpha", "beta", "temperature", "rkd_distance", "rkd_angle", "gamma_i", "released_intra")
    expected = {
        "fine-tuning": [""] * 7, "pkd": ["0.5", "10.0", "5.0", "", "", "", ""], "minilm": ["0.5", "1.0", "5.0", "", "", "", ""],
        "rkd": ["0.5", "", "5.0", "1.0", "2.0", "", ""],
    }[method]
    assert [row[name] for name in columns] == expected
    assert json.loads(row["flags"])["method"] == method
    losses = {tag.removeprefix("train/") for tag in curves(tmp_path, method) if tag.startswith("train/")}
    own = {"fine-tuning": set(), "pkd": {"pkd"}, "rkd": {"rkd_distance", "rkd_angle"}, "minilm": {"attention", "value_relation"}}
    assert losses == {"task_loss", "total", "learning_rate", "examples_per_second", *own[method]} | (
        set() if method == "fine-tuning" else {"dark_knowledge"}
    )


def test_baselines_share_their_start_and_batches_with_the_structures(train, tmp_path):
    train("run_glue_intra_inter.py", "kd", "--beta", 0, "--logging_steps", 1)
    train("scripts/run_baseline.py", "rkd", "--method", "rkd", *BASELINES["rkd"], "--logging_steps", 1)
    first = [curves(tmp_path, name)["train/task_loss"][0] for name in ("kd", "rkd")]
    assert first[0] == first[1]


@pytest.mark.parametrize(("flags", "words"), [
    (["--method", "fine-tuning", "--beta", 1], "--method fine-tuning has no --beta"),
    (["--method", "fine-tuning", "--alpha", 0.5], "--method fine-tuning has no --alpha"),
    (["--method", "pkd"], "--method pkd needs --beta"),
    (["--method", "rkd", "--beta", 1], "--method rkd has no --beta"),
    (["--method", "rkd"], "--method rkd needs --rkd_distance or --rkd_angle"),
    (["--method", "minilm", "--beta", 1, "--rkd_angle", 1], "--method minilm has no --rkd_angle"),
    (["--method", "fine-tuning", "--cache_teacher", "ram"], "no loss compares with the teacher"),
    (["--method", "kd"], "invalid choice"),
])
def test_what_a_method_does_not_take_is_refused(train, tmp_path, flags, words):
    refused = train("scripts/run_baseline.py", "out", *flags)
    assert refused.status == 2 and words in refused.last_line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("method", "config", "words"), [
    ("pkd", {"hidden_size": 8, "num_attention_heads": 2}, "needs the same hidden_size"),
    ("minilm", {"num_attention_heads": 1}, "needs the same num_attention_heads"),
    ("pkd", {"num_hidden_layers": 3}, "--method pkd: a teacher of"),
])
def test_models_that_do_not_match_are_refused(train, rte_teacher, tmp_path, method, config, words):
    shape = json.loads((rte_teacher / "config.json").read_text()) | config
    (tmp_path / "shape.json").write_text(json.dumps(shape))
    refused = train("scripts/run_baseline.py", "out", "--method", method, "--beta", 1, "--student_config_name",
                    tmp_path / "shape.json")
    assert refused.status == 2 and words in refused.last_line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("script", "flags"), [
    ("run_glue_intra_inter.py", []), ("run_glue_intra_inter.py", ["--internal", "--beta", 0]),
    ("run_glue_all.py", ["--gamma_i", 0, "--gamma_g", 0]),
])
def test_the_released_form_is_refused_without_the_loss(train, tmp_path, script, flags):
    refused = train(script, "out", "--released_intra", *flags)
    assert refused.status == 2 and "--released_intra: L_I has weight 0" in refused.last_line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("script", "flags", "words"), [
    ("run_glue_intra_inter.py", ["--beta", 0], "--debiased: no structure has a weight"),
    ("run_glue_all.py", ["--gamma_i", 0, "--gamma_l", 0, "--gamma_g", 0], "--debiased: no structure has a weight"),
    ("run_glue_global.py", ["--beta", 0], "--debiased: no structure has a weight"),
    ("run_glue_intra_inter.py", ["--internal", "--released_intra"], "--debiased and --released_intra exclude each other"),
])
def test_the_debiased_form_is_refused_where_it_does_not_fit(train, tmp_path, script, flags, words):
    refused = train(script, "out", "--debiased", *flags)
    assert refused.status == 2 and words in refused.last_line and not (tmp_path / "out").exists()


def test_the_debiased_form_trains_another_student_and_is_recorded(train, tmp_path):
    for name, flags in (("paper", []), ("debiased", ["--debiased"])):
        finished = train("run_glue_intra_inter.py", name, *flags)
        assert finished.status == 0, finished.err
    assert "local_inter (debiased)" in finished.err
    rows = list(csv.DictReader(open(tmp_path / "results.csv", newline="")))
    assert [row["debiased"] for row in rows] == ["False", "True"]
    assert json.loads(rows[1]["flags"])["debiased"] is True
    assert json.loads((tmp_path / "debiased/training_args.json").read_text())["objective"]["debiased"] is True
    assert weights(tmp_path / "paper") != weights(tmp_path / "debiased")


def test_the_released_form_trains_another_student_and_is_recorded(train, tmp_path):
    for name, flags in (("paper", []), ("released", ["--released_intra"])):
        assert train("run_glue_intra_inter.py", name, "--internal", *flags).status == 0
    rows = list(csv.DictReader(open(tmp_path / "results.csv", newline="")))
    assert [row["released_intra"] for row in rows] == ["False", "True"]
    assert json.loads((tmp_path / "released/training_args.json").read_text())["objective"]["released_intra"] is True
    assert weights(tmp_path / "paper") != weights(tmp_path / "released")


def weights(folder):
    return {name: value.tolist() for name, value in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("method", ["fine-tuning", "KD", "FSD_L"])
@pytest.mark.parametrize("cached", [False, True])
def test_relations_are_logged_at_logging_steps_and_change_nothing(train, tmp_path, monkeypatch, method, cached):
    script, flags = {
        "fine-tuning": ("scripts/run_baseline.py", ["--method", "fine-tuning"]),
        "KD": ("run_glue_intra_inter.py", ["--beta", 0]), "FSD_L": ("run_glue_intra_inter.py", []),
    }[method]
    if cached and method != "fine-tuning":
        flags = [*flags, "--cache_teacher", tmp_path / "cache"]
    flags += ["--logging_steps", 3]
    assert train(script, "plain", *flags).status == 0
    calls, original = [], batch.relation_differences
    monkeypatch.setattr(batch, "relation_differences", lambda *values: calls.append(1) or original(*values))
    assert train(script, "logged", *flags, "--log_relations").status == 0
    assert len(calls) == 3
    logged = curves(tmp_path, "logged")
    for name in RELATIONS:
        assert [step for step, _ in logged[name]] == [1, 3, 6] and all(value > 0 for _, value in logged[name])
    assert not [tag for tag in curves(tmp_path, "plain") if tag.startswith("relations/")]
    assert weights(tmp_path / "plain") == weights(tmp_path / "logged")
