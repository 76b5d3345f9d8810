"""Loading, building, copying: what a student starts from, and in which order labels stand."""

import json
from argparse import Namespace

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from fsd import models
from fsd.files import InputError
from fsd.glue import find_task

RTE, MNLI = find_task("RTE"), find_task("MNLI")


@pytest.fixture
def arguments(rte_teacher, tmp_path):
    """The arguments that models.py reads, at their defaults; ``arguments(name=value)`` changes some."""

    def make(**changed):
        given = dict(
            model_name_or_path=str(rte_teacher), config_name=None, tokenizer_name=None, cache_dir=None, do_lower_case=False,
            max_seq_length=24, student_model_name_or_path=None, student_config_name=None, copy_teacher=False,
            model_name_or_path_for_copy=None, output_dir=str(tmp_path / "out"), seed=42,
        )
        return Namespace(**given | changed)

    return make


def build(args, task=RTE):
    tokenizer = models.load_tokenizer(args)
    teacher = models.load_teacher(args, task, tokenizer)
    return teacher, *models.build_student(args, teacher, task, tokenizer)


def test_the_teacher_is_frozen_and_in_eval_mode(arguments):
    teacher, _, _ = build(arguments())
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_fresh_student_has_half_the_layers_and_its_own_stream(arguments):
    _, first, copied = build(arguments())
    torch.rand(3)
    before = torch.get_rng_state()
    _, second, _ = build(arguments())
    assert torch.equal(before, torch.get_rng_state())
    _, other, _ = build(arguments(seed=1))
    assert first.config.num_hidden_layers == 2 and not copied.copied
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_copying_the_teacher_copies_embeddings_first_layers_pooler_and_classifier(arguments):
    teacher, student, copied = build(arguments(copy_teacher=True))
    values = dict(teacher.named_parameters())
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter, values[name]), name
    assert copied.describe(student).startswith("copied from ") and "layers 0–1, pooler, classifier" in copied.describe(student)


def test_copying_an_encoder_leaves_the_classifier_fresh(arguments, rte_teacher, tmp_path):
    AutoModel.from_pretrained(rte_teacher).save_pretrained(tmp_path / "encoder")
    source = str(tmp_path / "encoder")
    teacher, student, copied = build(arguments(copy_teacher=True, model_name_or_path_for_copy=source))
    _, fresh, _ = build(arguments())
    assert copied.fresh == ("classifier.weight", "classifier.bias")
    assert torch.equal(student.classifier.weight, fresh.classifier.weight)
    assert not torch.equal(student.classifier.weight, teacher.classifier.weight)
    assert torch.equal(student.bert.pooler.dense.weight, teacher.bert.pooler.dense.weight)


def test_a_student_of_another_width_copies_what_fits(arguments, rte_teacher, save_bert, tmp_path):
    save_bert(tmp_path / "narrow", "RTE", layers=3, width=8)
    config = str(tmp_path / "narrow" / "config.json")
    _, student, copied = build(arguments(student_config_name=config, copy_teacher=True))
    assert student.config.num_hidden_layers == 3 and student.config.hidden_size == 8
    assert copied.copied == ("classifier.bias",)


def test_a_starting_student_is_taken_as_it_is(arguments, save_bert, tmp_path):
    save_bert(tmp_path / "student", "RTE", layers=3, seed=5)
    _, student, copied = build(arguments(student_model_name_or_path=str(tmp_path / "student")))
    saved, _ = models.load_pretrained(tmp_path / "student", "")
    assert torch.equal(student.classifier.weight, saved.classifier.weight) and not copied.fresh


def test_the_output_folder_or_nothing_is_a_fresh_start(arguments, tmp_path):
    for name in (str(tmp_path / "out"), str(tmp_path / "elsewhere")):
        _, student, copied = build(arguments(student_model_name_or_path=name))
        assert not copied.copied


def reorder_labels(folder, names):
    """Give a saved model's config these label names, in this order."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: at for at, name in enumerate(names)}}
    path.write_text(json.dumps(config))


def test_labels_are_matched_by_name(arguments, save_bert, tmp_path):
    """The names move and the weights stay, so the teacher's logits and a copied classifier must be permuted."""
    folder = save_bert(tmp_path / "teacher", "MNLI")
    args = arguments(model_name_or_path=str(folder), copy_teacher=True)
    in_order, _, _ = build(args, MNLI)
    reorder_labels(folder, ["ENTAILMENT", "neutral", "Contradiction"])
    teacher, student, _ = build(args, MNLI)
    assert torch.equal(teacher.classifier.weight, in_order.classifier.weight[[2, 0, 1]])
    assert torch.equal(student.classifier.weight, teacher.classifier.weight)
    assert torch.equal(student.classifier.bias, in_order.classifier.bias[[2, 0, 1]])
    assert list(student.config.id2label.values()) == list(MNLI.labels)


def test_unnamed_labels_keep_their_order(arguments, save_bert, tmp_path):
    folder = save_bert(tmp_path / "teacher", "MNLI")
    args = arguments(model_name_or_path=str(folder))
    in_order, _, _ = build(args, MNLI)
    reorder_labels(folder, ["LABEL_0", "LABEL_1", "LABEL_2"])
    teacher, _, _ = build(args, MNLI)
    assert torch.equal(teacher.classifier.weight, in_order.classifier.weight)


def test_lower_casing_a_cased_tokenizer_is_warned_of(arguments, rte_teacher, tmp_path, caplog):
    AutoTokenizer.from_pretrained(rte_teacher, do_lower_case=False).save_pretrained(tmp_path / "cased")
    cased = models.load_tokenizer(arguments(tokenizer_name=str(tmp_path / "cased")))
    assert cased.tokenize("The") != cased.tokenize("the")
    lowered = models.load_tokenizer(arguments(tokenizer_name=str(tmp_path / "cased"), do_lower_case=True))
    assert lowered.tokenize("The") == lowered.tokenize("the")
    assert "saved as cased" in caplog.text


def test_the_hash_is_of_the_weights(arguments, rte_teacher, save_bert, tmp_path):
    first, second = (models.load_pretrained(rte_teacher, "")[0] for _ in range(2))
    assert models.model_hash(first) == models.model_hash(second)
    with torch.no_grad():
        second.classifier.bias[0] += 1
    assert models.model_hash(first) != models.model_hash(second)


def test_fine_tuning_starts_from_the_encoder_and_a_fresh_classifier(arguments, rte_teacher):
    args = arguments()
    model, copied = models.build_for_finetuning(args, MNLI, models.load_tokenizer(args))
    assert model.config.num_labels == 3 and copied.fresh == ("classifier.weight", "classifier.bias")
    saved, _ = models.load_pretrained(rte_teacher, "")
    assert torch.equal(model.bert.pooler.dense.weight, saved.bert.pooler.dense.weight)


def test_a_student_without_layers_is_refused(arguments, save_bert, tmp_path):
    folder = save_bert(tmp_path / "shallow", "RTE", layers=1)
    with pytest.raises(InputError, match="--student_config_name"):
        build(arguments(model_name_or_path=str(folder)))
