"""The loop on small models: the equalities between methods, determinism, accumulation, padding, logging."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from fsd.glue.tasks import METRIC_NAMES
from fsd.method.relations import RELATIONS

LENGTH = 24


@pytest.fixture
def distil(run_script, toy_glue, rte_teacher, tmp_path):
    """Call ``distil(script, name, flags…)``: trains a student for three epochs of 16s (70 examples: the last is 6)."""

    def run(script, name, *flags, teacher=rte_teacher):
        output_dir = tmp_path / name
        finished = run_script(
            script, "--model_type", "bert", "--model_name_or_path", teacher, "--data_dir", toy_glue,
            "--per_gpu_train_batch_size", 16, "--max_seq_length", LENGTH, "--output_dir", output_dir,
            "--student_model_type", "bert", "--student_model_name_or_path", output_dir, "--do_train", "--run_file",
            tmp_path / "runs" / name, "--copy_teacher", "--temperature", 5, "--num_train_epochs", 3, "--learning_rate",
            "1e-3", "--task_name", "RTE", "--do_lower_case", *flags,
        )
        assert finished.status == 0, finished.err
        return output_dir

    return run


def weights(output_dir, name="model.safetensors"):
    return load_file(output_dir / name)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def scalars(folder):
    """{tag: [values]} of the one TensorBoard run below the folder."""
    (run,) = folder.iterdir()
    events = EventAccumulator(str(run)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_the_same_seed_gives_the_same_student_with_and_without_evaluation(distil):
    plain = distil("run_glue_intra_inter.py", "plain", "--internal")
    watched = distil("run_glue_intra_inter.py", "watched", "--internal", "--do_eval", "--evaluate_during_training",
                     "--logging_steps", 1, "--save_steps", 4)
    other_seed = distil("run_glue_intra_inter.py", "other", "--internal", "--seed", 1)
    assert_same(weights(plain), weights(watched))
    assert any(not torch.equal(value, weights(other_seed)[name]) for name, value in weights(plain).items())


def test_relations_are_logged_at_logging_steps_and_change_nothing(distil, tmp_path):
    flags = ("--beta", 0, "--max_steps", 4, "--logging_steps", 2)  # KD itself needs no hidden states
    plain, logged = (distil("run_glue_intra_inter.py", name, *flags, *more)
                     for name, more in (("plain", ()), ("logged", ("--log_relations",))))
    assert_same(weights(plain), weights(logged))
    found = scalars(tmp_path / "runs/logged")
    for name in RELATIONS:
        assert len(found[f"relations/{name}"]) == 3 and all(value > 0 for value in found[f"relations/{name}"])
    assert not any(tag.startswith("relations/") for tag in scalars(tmp_path / "runs/plain"))


def test_one_gamma_alone_is_the_single_structure_script(distil, memory):
    for gammas, script, flags in (
        ((1, 0, 0), "run_glue_intra_inter.py", ["--internal"]),
        ((0, 1, 0), "run_glue_intra_inter.py", []),
        ((0, 0, 1), "run_glue_global.py", ["--teacher_memory_path", memory, "--gamma_m", 0.01]),
    ):
        gamma_i, gamma_l, gamma_g = gammas
        single = distil(script, f"single-{gammas}", "--beta", 2, *flags)
        together = distil("run_glue_all.py", f"all-{gammas}", "--beta", 2, "--gamma_i", gamma_i, "--gamma_l", gamma_l,
                          "--gamma_g", gamma_g, "--gamma_m", 0.01, "--teacher_memory_path", memory)
        assert_same(weights(single), weights(together))
        if gamma_g:
            assert_same(*(weights(folder, "student_memory.safetensors") for folder in (single, together)))


def test_beta_0_is_the_same_kd_in_every_script_and_needs_no_memory(distil):
    students = [distil(script, script, "--beta", 0) for script in
                ("run_glue_intra_inter.py", "run_glue_global.py", "run_glue_all.py")]
    for student in students[1:]:
        assert_same(weights(students[0]), weights(student))
    assert not (students[1] / "student_memory.safetensors").exists()


def test_methods_share_their_start_and_their_batches(distil):
    """At step 1 no update has been made: cross-entropy and dark knowledge are those of the same batch and student."""
    first = {}
    for name, flags in (("kd", ["--beta", 0]), ("intra", ["--internal"]), ("local", [])):
        folder = distil("run_glue_intra_inter.py", name, *flags, "--max_steps", 1)
        first[name] = scalars(folder.parent / "runs" / name)
    for tag in ("train/task_loss", "train/dark_knowledge"):
        assert first["kd"][tag] == first["intra"][tag] == first["local"][tag]


def test_tensorboard_and_results_hold_every_loss_and_metric(distil, memory, tmp_path):
    folder = distil("run_glue_all.py", "ilg", "--do_eval", "--logging_steps", 2, "--gamma_m", 0.01,
                    "--teacher_memory_path", memory)
    values = scalars(tmp_path / "runs" / "ilg")
    parts = ["task_loss", "dark_knowledge", "intra", "local_inter", "global_distance", "global_cosine", "memory_cka"]
    for name in (*parts, "total", "learning_rate", "examples_per_second"):
        assert len(values[f"train/{name}"]) == 8 + 1, name  # steps 1, 2, 4, … 14, and the last, 15
    assert values["train/learning_rate"][0] == pytest.approx(1e-3)
    written = json.loads((folder / "training_args.json").read_text())
    total = sum(weight * values[f"train/{name}"][3] for name, weight in written["weights"].items())
    assert values["train/total"][3] == pytest.approx(total, rel=1e-5)  # float32 sums
    (row,) = csv.DictReader(open(tmp_path / "results.csv", newline=""))
    assert (row["task"], row["method"], row["seed"], row["batch_size"]) == ("RTE", "FSD_ILG", "42", "16")
    assert float(row["acc"]) == pytest.approx(values["trained/acc"][-1], abs=1e-6)
    assert (folder / "eval_results.txt").read_text() == f"acc = {row['acc']}\n"


def test_the_record_holds_the_hash_of_the_training_data(distil):
    def train_data(name, *flags):
        folder = distil("run_glue_intra_inter.py", name, "--beta", 0, "--max_steps", 1, *flags)
        return json.loads((folder / "training_args.json").read_text())["trained_on"]["rows"]

    whole = train_data("whole")
    assert len(whole) == 64 and whole == train_data("another length", "--max_seq_length", 16)
    assert whole != train_data("subset", "--max_train_samples", 40)


def test_max_steps_is_exact_and_leftover_batches_count(distil, tmp_path):
    """70 examples in 16s are 5 batches; in pairs, 3 updates an epoch, the last of one batch."""
    distil("run_glue_intra_inter.py", "steps", "--beta", 0, "--max_steps", 5, "--logging_steps", 1)
    assert len(scalars(tmp_path / "runs" / "steps")["train/total"]) == 5
    distil("run_glue_intra_inter.py", "groups", "--beta", 0, "--gradient_accumulation_steps", 2, "--logging_steps", 1)
    assert len(scalars(tmp_path / "runs" / "groups")["train/total"]) == 9


def test_padding_left_out_or_cut_trains_on(distil, run_script):
    for script, flags in (("run_glue_intra_inter.py", ["--internal"]), ("run_glue_intra_inter.py", [])):
        masked = distil(script, f"masked{len(flags)}", "--mask_padding", *flags)
        plain = distil(script, f"plain{len(flags)}", *flags)
        assert all(torch.isfinite(value).all() for value in weights(masked).values())
        assert any(not torch.equal(value, weights(plain)[name]) for name, value in weights(masked).items())


def test_bf16_trains_close_to_float32(distil, tmp_path):
    first = {}
    for name, flags in (("float32", []), ("bf16", ["--bf16"])):
        distil("run_glue_intra_inter.py", name, "--internal", "--max_steps", 1, *flags)
        first[name] = scalars(tmp_path / "runs" / name)["train/total"][0]
    assert first["bf16"] != first["float32"]
    assert first["bf16"] == pytest.approx(first["float32"], rel=0.05)  # bfloat16 keeps 8 bits, over 4 layers


def test_the_trained_student_is_a_plain_bert(distil):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = distil("run_glue_intra_inter.py", "student", "--max_steps", 2)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.num_hidden_layers == 2
    assert model.config.id2label == {0: "entailment", 1: "not_entailment"}
    logits = model(**AutoTokenizer.from_pretrained(folder)("A dog runs.", "A dog moves.", return_tensors="pt")).logits
    assert logits.shape == (1, 2)


def test_checkpoints_are_whole_students_and_only_the_newest_stay(distil, tmp_path):
    folder = distil("run_glue_intra_inter.py", "kept", "--do_eval", "--save_steps", 4, "--save_total_limit", 2,
                    "--eval_all_checkpoints")
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-8"]
    assert (folder / "checkpoint-8" / "eval_results.txt").read_text().startswith("acc = ")
    assert not list(folder.glob(".*"))


def test_a_teacher_at_chance_is_told_before_training(run_script, toy_glue, rte_teacher, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    teacher = AutoModelForSequenceClassification.from_pretrained(rte_teacher)
    with torch.no_grad():
        teacher.classifier.weight.zero_()  # always the same class
    teacher.save_pretrained(tmp_path / "constant")
    AutoTokenizer.from_pretrained(rte_teacher).save_pretrained(tmp_path / "constant")
    arguments = ["--data_dir", toy_glue, "--task_name", "RTE", "--do_train", "--max_steps", 1, "--max_seq_length", LENGTH]
    finished = run_script("run_glue_intra_inter.py", *arguments, "--model_name_or_path", tmp_path / "constant",
                          "--output_dir", tmp_path / "out")
    assert finished.status == 0, finished.err
    assert "teacher on dev: acc" in finished.err and "at chance" in finished.err


def test_one_loss_that_decides_everything_is_warned_of(run_script, toy_glue, rte_teacher, memory, tmp_path):
    finished = run_script(
        "run_glue_global.py", "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_train",
        "--max_steps", 1, "--max_seq_length", LENGTH, "--output_dir", tmp_path / "out", "--do_lower_case", "--beta", 1000,
        "--gamma_m", 1, "--teacher_memory_path", memory,
    )
    assert finished.status == 0, finished.err
    assert "global_distance is over 100 times all other losses together; lower --gamma_m or --beta" in finished.err


def test_curves_come_before_single_points_in_tensorboard(distil, tmp_path):
    distil("run_glue_intra_inter.py", "plain", "--do_eval", "--logging_steps", 2)
    distil("run_glue_intra_inter.py", "watched", "--do_eval", "--logging_steps", 2, "--evaluate_during_training")
    distil("run_glue_intra_inter.py", "short", "--do_eval", "--logging_steps", 2, "--evaluate_during_training", "--max_steps", 4)
    for name, curves in (("plain", {"cka", "train"}), ("watched", {"cka", "train", "dev"}), ("short", {"cka", "train"})):
        values = scalars(tmp_path / "runs" / name)
        counts = [len(values[tag]) > 1 for tag in sorted(values)]
        assert counts == sorted(counts, reverse=True) and not counts[-1]
        assert {tag.split("/")[0] for tag, points in values.items() if len(points) > 1} == curves


def test_every_run_declares_the_same_columns_on_the_hparams_page(distil, memory, tmp_path):
    columns = []
    for name, script, flags in (("kd", "run_glue_intra_inter.py", ["--beta", 0]),
                                ("ilg", "run_glue_all.py", ["--teacher_memory_path", memory, "--do_eval"])):
        distil(script, name, "--max_steps", 1, *flags)
        (run,) = (tmp_path / "runs" / name).iterdir()
        events = EventAccumulator(str(run)).Reload()
        content = events.summary_metadata["_hparams_/experiment"].plugin_data.content
        experiment = HParamsPluginData.FromString(content).experiment
        columns.append(([info.name for info in experiment.hparam_infos], [info.name.tag for info in experiment.metric_infos]))
    assert columns[0] == columns[1]
    hparams, metrics = columns[0]
    assert {"task", "method", "beta", "gamma_i", "gamma_m", "learning_rate"} <= set(hparams)
    assert not {"output_dir", "local_rank", "overwrite_cache"} & set(hparams)
    assert {f"trained/{name}" for name in METRIC_NAMES} == set(metrics)
