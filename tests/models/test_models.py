"""Loading, building, copying: what a student starts from, and in which order labels stand."""

import json
from argparse import Namespace

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, pipeline

from fsd.cli.distill import starting_student
from fsd.glue.tasks import TASKS, find_task
from fsd.models.hub import find_model
from fsd.models.loading import freeze, load_finetuned, load_pretrained
from fsd.models.student import build_for_finetuning, build_student, continue_student
from fsd.models.tokenizer import load_tokenizer
from fsd.system.errors import InputError
from fsd.system.hashes import model_hash

RTE, MNLI = find_task("RTE"), find_task("MNLI")


@pytest.fixture
def build(rte_teacher):
    """Call ``build(task, …)``: (teacher, :class:`Start` of a student); ``copy`` names what it is copied from."""

    def build(task=RTE, teacher=rte_teacher, copy=None, config=None, seed=42):
        source = find_model(teacher, "--model_name_or_path")
        tokenizer = load_tokenizer(source, False)
        model = freeze(load_finetuned(source, task, tokenizer, 24))
        copy_source = source if copy == "teacher" else copy and find_model(copy, "--model_name_or_path_for_copy")
        config_source = config and find_model(config, "--student_config_name")
        return model, build_student(model, source, task, tokenizer, 24, seed, config_source, copy_source)

    return build


def test_the_teacher_is_frozen_and_in_eval_mode(build):
    teacher, _ = build()
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_fresh_student_has_half_the_layers_and_its_own_stream(build):
    _, first = build()
    torch.rand(3)
    before = torch.get_rng_state()
    _, second = build()
    assert torch.equal(before, torch.get_rng_state())
    _, other = build(seed=1)
    assert first.model.config.num_hidden_layers == 2
    assert first.fresh == {name for name, _ in first.model.named_parameters()}
    assert torch.equal(first.model.classifier.weight, second.model.classifier.weight)
    assert not torch.equal(first.model.classifier.weight, other.model.classifier.weight)


def test_copying_the_teacher_copies_embeddings_first_layers_pooler_and_classifier(build):
    teacher, start = build(copy="teacher")
    values = dict(teacher.named_parameters())
    for name, parameter in start.model.named_parameters():
        assert torch.equal(parameter, values[name]), name
    assert start.describe().startswith("copied from ") and "layers 0–1, pooler, classifier" in start.describe()


def test_copying_an_encoder_leaves_the_classifier_fresh(build, rte_teacher, tmp_path):
    AutoModel.from_pretrained(rte_teacher).save_pretrained(tmp_path / "encoder")
    teacher, start = build(copy=tmp_path / "encoder")
    _, fresh = build()
    assert start.fresh == {"classifier.weight", "classifier.bias"}
    assert torch.equal(start.model.classifier.weight, fresh.model.classifier.weight)
    assert not torch.equal(start.model.classifier.weight, teacher.classifier.weight)
    assert torch.equal(start.model.bert.pooler.dense.weight, teacher.bert.pooler.dense.weight)


def test_a_student_of_another_width_copies_what_fits(build, save_bert, tmp_path):
    save_bert(tmp_path / "narrow", "RTE", layers=3, width=8)
    _, start = build(config=tmp_path / "narrow" / "config.json", copy="teacher")
    assert start.model.config.num_hidden_layers == 3 and start.model.config.hidden_size == 8
    assert start.fresh == {name for name, _ in start.model.named_parameters()} - {"classifier.bias"}


def test_a_starting_student_is_taken_as_it_is(rte_teacher, save_bert, tmp_path):
    source = find_model(save_bert(tmp_path / "student", "RTE", layers=3, seed=5), "--student_model_name_or_path")
    start = continue_student(source, RTE, load_tokenizer(source, False), 24, seed=42)
    saved, _ = load_pretrained(source)
    assert torch.equal(start.model.classifier.weight, saved.classifier.weight) and not start.fresh


def test_the_output_folder_or_nothing_is_a_fresh_start(tmp_path):
    for name in (str(tmp_path / "out"), None):
        args = Namespace(student_model_name_or_path=name, output_dir=str(tmp_path / "out"), cache_dir=None)
        assert starting_student(args) is None


def test_a_starting_student_that_is_not_there_is_refused(tmp_path):
    args = Namespace(student_model_name_or_path=str(tmp_path / "misspelt"), output_dir=str(tmp_path / "out"), cache_dir=None)
    with pytest.raises(InputError, match="--student_model_name_or_path .*misspelt: there is no such folder"):
        starting_student(args)


def test_names_that_stand_in_label2id_alone_count(build, save_bert, tmp_path):
    folder = save_bert(tmp_path / "teacher", "MNLI")
    in_order, _ = build(MNLI, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["id2label"]
    config["label2id"] = {"entailment": 0, "neutral": 1, "contradiction": 2}
    (folder / "config.json").write_text(json.dumps(config))
    teacher, _ = build(MNLI, folder)
    assert torch.equal(teacher.classifier.weight, in_order.classifier.weight[[2, 0, 1]])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_pipelines_answer_as_the_evaluation_does(task, save_bert, tmp_path):
    """With the class's name, or for STS-B with the score itself."""
    source = find_model(save_bert(tmp_path / "model", task.name), "--model_name_or_path")
    tokenizer = load_tokenizer(source, False)
    model = load_finetuned(source, task, tokenizer, 24)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    texts = {"text": "A dog runs.", "text_pair": "It rains."} if task.pair else {"text": "A dog runs."}
    answer = pipeline("text-classification", model=str(tmp_path / "saved"))(texts)
    with torch.no_grad():
        logits = model.eval()(**tokenizer(*texts.values(), return_tensors="pt")).logits[0]
    if task.regression:
        assert answer["score"] == pytest.approx(logits.item(), abs=1e-4)  # one batch of one, in float32
    else:
        assert answer["label"] == task.labels[int(logits.argmax())]


def reorder_labels(folder, names):
    """Give a saved model's config these label names, in this order."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: at for at, name in enumerate(names)}}
    path.write_text(json.dumps(config))


def test_labels_are_matched_by_name(build, save_bert, tmp_path):
    """The names move and the weights stay, so the teacher's logits and a copied classifier must be permuted."""
    folder = save_bert(tmp_path / "teacher", "MNLI")
    in_order, _ = build(MNLI, folder, copy="teacher")
    reorder_labels(folder, ["ENTAILMENT", "neutral", "Contradiction"])
    teacher, start = build(MNLI, folder, copy="teacher")
    assert torch.equal(teacher.classifier.weight, in_order.classifier.weight[[2, 0, 1]])
    assert torch.equal(start.model.classifier.weight, teacher.classifier.weight)
    assert torch.equal(start.model.classifier.bias, in_order.classifier.bias[[2, 0, 1]])
    assert list(start.model.config.id2label.values()) == list(MNLI.labels)


def test_unnamed_labels_keep_their_order(build, save_bert, tmp_path):
    folder = save_bert(tmp_path / "teacher", "MNLI")
    in_order, _ = build(MNLI, folder)
    reorder_labels(folder, ["LABEL_0", "LABEL_1", "LABEL_2"])
    teacher, _ = build(MNLI, folder)
    assert torch.equal(teacher.classifier.weight, in_order.classifier.weight)


def test_lower_casing_a_cased_tokenizer_is_warned_of(rte_teacher, tmp_path, caplog):
    AutoTokenizer.from_pretrained(rte_teacher, do_lower_case=False).save_pretrained(tmp_path / "cased")
    cased = load_tokenizer(find_model(tmp_path / "cased", "--tokenizer_name"), False)
    assert cased.tokenize("The") != cased.tokenize("the")
    lowered = load_tokenizer(find_model(tmp_path / "cased", "--tokenizer_name"), True)
    assert lowered.tokenize("The") == lowered.tokenize("the")
    assert "saved as cased" in caplog.text


def test_the_hash_is_of_the_weights(rte_teacher):
    first, second = (load_pretrained(find_model(rte_teacher, ""))[0] for _ in range(2))
    assert model_hash(first) == model_hash(second)
    with torch.no_grad():
        second.classifier.bias[0] += 1
    assert model_hash(first) != model_hash(second)


def test_fine_tuning_starts_from_the_encoder_and_a_fresh_classifier(rte_teacher):
    source = find_model(rte_teacher, "--model_name_or_path")
    start = build_for_finetuning(source, MNLI, load_tokenizer(source, False), 24, seed=42)
    assert start.model.config.num_labels == 3 and start.fresh == {"classifier.weight", "classifier.bias"}
    saved, _ = load_pretrained(source)
    assert torch.equal(start.model.bert.pooler.dense.weight, saved.bert.pooler.dense.weight)


def test_a_student_without_layers_is_refused(build, save_bert, tmp_path):
    folder = save_bert(tmp_path / "shallow", "RTE", layers=1)
    with pytest.raises(InputError, match="--student_config_name"):
        build(teacher=folder)


def test_a_model_with_nothing_to_copy_is_refused(build, save_bert, tmp_path):
    wide = save_bert(tmp_path / "wide", "MNLI", width=32)
    with pytest.raises(InputError, match="no parameter of .*/wide matches .*; leave the flag out, or name another model"):
        build(copy=wide)
