"""Distillation from the command line with every kind of encoder, as teacher and as student."""

import csv
import json

import pytest
from safetensors.torch import load_file
from small_encoders import save_encoder, small_config

from fsd.models.kinds import KINDS

LENGTH = 32
ALL, BASELINE = "run_glue_all.py", "scripts/run_baseline.py"
METHODS = {
    "KD": (ALL, "--beta", 0), "FSD_I": (ALL, "--gamma_l", 0, "--gamma_g", 0), "FSD_L": (ALL, "--gamma_i", 0, "--gamma_g", 0),
    "FSD_G": (ALL, "--gamma_i", 0, "--gamma_l", 0), "FSD_IL": (ALL, "--gamma_g", 0), "FSD_ILG": (ALL,),
    "fine-tuning": (BASELINE, "--method", "fine-tuning"), "PKD": (BASELINE, "--method", "pkd", "--beta", 1),
    "RKD": (BASELINE, "--method", "rkd", "--rkd_distance", 1, "--rkd_angle", 1),
    "MiniLM": (BASELINE, "--method", "minilm", "--beta", 1),
}


@pytest.fixture(scope="module")
def encoder(toy_glue, tmp_path_factory):
    """Call ``encoder(kind)``: the folder of a small random text classifier for RTE."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = save_encoder(tmp_path_factory.mktemp(kind), kind, toy_glue / "RTE/train.tsv", toy_glue)
        return made[kind]

    return make


@pytest.fixture
def run(run_script, toy_glue, tmp_path):
    """Call ``run(script, name, teacher, flags…)``: three steps on RTE; returns what finished."""

    def run(script, name, teacher, *flags):
        return run_script(
            script, "--model_name_or_path", teacher, "--task_name", "RTE", "--data_dir", toy_glue, "--max_seq_length", LENGTH,
            "--per_gpu_train_batch_size", 8, "--do_train", "--output_dir", tmp_path / name, "--run_file", tmp_path / "runs",
            *flags,
        )

    return run


@pytest.fixture
def distil(run, tmp_path):
    """Call ``distil(method, teacher, flags…)``: returns what finished; builds the memory that the method needs."""

    def distil(method, teacher, *flags):
        script, *own = METHODS[method]
        if method in ("FSD_G", "FSD_ILG"):
            if not (tmp_path / "memory").exists():
                built = run("train_memory.py", "memory", teacher, "--num_centroid", 3, "--max_train_samples", 24,
                            "--mask_padding")
                assert built.status == 0, built.err
            own += ["--teacher_memory_path", tmp_path / "memory"]
        return run(script, method, teacher, "--max_steps", 3, "--mask_padding", "--skip_teacher_eval", "--results_file",
                   tmp_path / "results.csv", *own, *flags)

    return distil


def rows(tmp_path):
    return list(csv.DictReader(open(tmp_path / "results.csv", newline="")))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_every_method(kind, encoder, distil, tmp_path):
    for method in METHODS:
        finished = distil(method, encoder(kind), "--copy_teacher")
        assert finished.status == 0, finished.err
    assert [(row["method"], row["student_model_type"]) for row in rows(tmp_path)] == [(method, kind) for method in METHODS]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("bert", "roberta")])
def test_from_the_pretrained_encoder_to_the_analysis(kind, encoder, run, distil, run_script, toy_glue, tmp_path):
    """The README's way, with everything that a kind must answer on it."""
    finished = run("scripts/finetune_teacher.py", "teacher", encoder(kind), "--max_steps", 1, "--results_file",
                   tmp_path / "teachers.csv")
    assert finished.status == 0, finished.err
    teacher, cached = tmp_path / "teacher", ("--cache_teacher", tmp_path / "cache")
    for method, *flags in (("KD", "--copy_teacher", "--do_eval"), ("FSD_ILG", "--copy_teacher", "--log_relations", *cached)):
        finished = distil(method, teacher, *flags)
        assert finished.status == 0, finished.err
    assert f"student: {kind}, 2 layers of width 16" in finished.err
    student = tmp_path / "FSD_ILG"
    name = (student / "README.md").read_text().splitlines()
    assert f"# {type_name(kind)} for GLUE RTE, trained with FSD_ILG" in name
    evaluated = run_script(
        "run_glue_all.py", "--student_model_name_or_path", student, "--task_name", "RTE", "--data_dir", toy_glue,
        "--output_dir", tmp_path / "evaluated", "--do_eval", "--do_predict", "--max_seq_length", LENGTH,
    )
    assert evaluated.status == 0, evaluated.err
    assert len((tmp_path / "evaluated/predictions/RTE.tsv").read_text().splitlines()) == 11
    analysed = run_script(
        "scripts/analyse.py", "--model_name_or_path", teacher, "--student_model_name_or_path", student, "--task_name", "RTE",
        "--data_dir", toy_glue, "--max_seq_length", LENGTH, "--output_file", tmp_path / "analysis.json",
        "--cka_batch_size", 8,
    )
    assert analysed.status == 0, analysed.err
    layers = json.loads((tmp_path / "analysis.json").read_text())["layers"]["map"]
    assert len(layers) == 5 and len(layers[0]) == 3


def type_name(kind):
    """The name in a class of models of this kind."""
    return {"distilbert": "DistilBert", "electra": "Electra", "xlm-roberta": "XLMRoberta", "deberta-v2": "DebertaV2",
            "modernbert": "ModernBert"}[kind]


@pytest.mark.parametrize("kind", ["distilbert", "modernbert"])
def test_a_student_of_another_kind(kind, encoder, distil, tmp_path):
    """It takes the teacher's tokenizer, with or without token types, and goes on from a checkpoint of its own."""
    size = len(json.loads((encoder("bert") / "tokenizer.json").read_text())["model"]["vocab"])
    small_config(kind, size, pad_token_id=7, num_hidden_layers=2).save_pretrained(tmp_path / "shape")
    shape = ("--student_config_name", tmp_path / "shape")
    refused = distil("KD", encoder("bert"), *shape, "--copy_teacher")
    assert refused.status == 2 and f"is of the kind bert and the student of the kind {kind}" in refused.last_line
    student, trained = tmp_path / "FSD_ILG", []
    for flags in (["--save_steps", 2], ["--student_model_name_or_path", student / "checkpoint-2"]):
        finished = distil("FSD_ILG", encoder("bert"), *shape, *flags)
        assert finished.status == 0, finished.err
        trained.append((student / "model.safetensors").read_bytes())
    assert "goes on from" in finished.err and trained[0] == trained[1]
    assert rows(tmp_path)[0]["student_model_type"] == kind
    assert json.loads((student / "config.json").read_text())["pad_token_id"] == 0  # the tokenizer's
    assert json.loads((student / "tokenizer_config.json").read_text())["model_input_names"] == ["input_ids", "attention_mask"]
    start = distil("KD", encoder("bert"), "--student_model_name_or_path", student)
    assert start.status == 0, start.err
    assert load_file(tmp_path / "KD/model.safetensors").keys() == load_file(student / "model.safetensors").keys()


def test_models_that_read_other_token_ids_are_refused(encoder, distil, tmp_path):
    for flags in (["--student_model_name_or_path", encoder("roberta")],
                  ["--copy_teacher", "--model_name_or_path_for_copy", encoder("roberta")]):
        refused = distil("KD", encoder("bert"), *flags)
        assert refused.status == 2 and "its tokenizer has another vocabulary than the teacher's" in refused.last_line
        assert not (tmp_path / "KD").exists()


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.projections])
def test_minilm_is_refused_where_the_attention_is_more_than_queries_and_keys(kind, encoder, distil, tmp_path):
    refused = distil("MiniLM", encoder(kind))
    assert refused.status == 2 and f"--method minilm: the attention of models of the kind {kind}" in refused.last_line
    assert not (tmp_path / "MiniLM").exists()


def test_a_kind_outside_the_table(encoder, distil, toy_glue, tmp_path):
    teacher = save_encoder(tmp_path / "albert", "albert", toy_glue / "RTE/train.tsv", toy_glue)
    finished = distil("FSD_ILG", teacher, "--copy_teacher")
    assert finished.status == 0 and "student: albert, 2 layers" in finished.err, finished.err
    refused = distil("MiniLM", teacher)
    assert refused.status == 2 and "of the kind albert" in refused.last_line
