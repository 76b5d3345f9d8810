"""Every number of an analysis against NumPy in float64, on small random models."""

import copy
import os

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from torch.utils.tensorboard import SummaryWriter

from fsd.analysis.cka_map import heat_map
from fsd.analysis.curves import read_curves
from fsd.analysis.restoration import restoration
from fsd.analysis.structures import layers_and_relations
from fsd.glue.encoding import encode_split
from fsd.glue.tasks import find_task
from fsd.method.relations import RELATIONS
from fsd.models.hub import find_model
from fsd.models.loading import freeze, load_finetuned
from fsd.models.tokenizer import load_tokenizer
from fsd.records.tracking import put_first
from fsd.system.errors import InputError

RTE, LENGTH, SIZE = find_task("RTE"), 20, 6


@pytest.fixture(scope="module")
def pair(save_bert, rte_teacher, toy_glue, tmp_path_factory):
    """(teacher of 4 layers, student of 3 layers and another width, the 40 examples of dev)."""
    folders = rte_teacher, save_bert(tmp_path_factory.mktemp("student"), "RTE", layers=3, width=8, seed=1)
    tokenizer = load_tokenizer(find_model(rte_teacher, "--model_name_or_path"), False)
    models = [freeze(load_finetuned(find_model(folder, "--model_name_or_path"), RTE, tokenizer, LENGTH)) for folder in folders]
    return *models, encode_split(RTE, toy_glue, "dev", tokenizer, LENGTH)


def states(model, dataset, masked):
    """All hidden states as arrays [L + 1, N, S, d] in float64, from transformers itself."""
    batch = dataset.batch(torch.arange(len(dataset)))
    batch.pop("labels")
    with torch.no_grad():
        hidden = copy.deepcopy(model).double()(**batch, output_hidden_states=True).hidden_states
    return torch.stack(hidden).numpy() * (batch["attention_mask"][..., None].numpy() if masked else 1)


def cka(x, y):
    """CKA of x [n, …] and y [n, …] from their covariances, without Gram matrices."""
    x, y = (side.reshape(len(side), -1) - side.reshape(len(side), -1).mean(axis=0) for side in (x, y))
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def hsic(x, y):
    """The unbiased HSIC of x [n, …] and y [n, …]: Song et al. 2012, Eq. 5."""
    n, (k, l) = len(x), (side.reshape(len(side), -1) @ side.reshape(len(side), -1).T for side in (x, y))  # noqa: E741
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    return ((k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l).sum()) / (n * (n - 3))


def chance_of(x, y):
    """The chance level of x and y, from their variances and the HSIC of each with itself."""
    traces = [side.reshape(len(side), -1).var(axis=0, ddof=1).sum() for side in (x, y)]
    return np.prod([(1 + len(x) * hsic(side, side) / trace**2) ** -0.5 for side, trace in zip((x, y), traces, strict=True)])


def difference(x, y, metric):
    """The mean over all n² pairs of the items of x and y [n, p]."""
    def relations(items):
        if metric == "euclidean":
            return np.linalg.norm(items[:, None] - items[None], axis=-1)
        norms = np.linalg.norm(items, axis=-1)
        return items @ items.T / np.outer(norms, norms)
    return np.abs(relations(x) - relations(y)).mean()


@pytest.mark.parametrize("masked", [False, True])
def test_the_heat_map(pair, masked):
    teacher, student, dev = pair
    found = heat_map(teacher, student, dev, SIZE, 5, masked)
    t, s = states(teacher, dev, masked)[3], states(student, dev, masked)[2]
    expected = [[cka(t[i : i + SIZE], s[j : j + SIZE]) for j in range(0, 30, SIZE)] for i in range(0, 30, SIZE)]
    assert np.allclose(found["map"], expected, atol=1e-6)
    assert found["mean_diagonal"] == pytest.approx(np.diagonal(expected).mean(), abs=1e-6)
    chance = [chance_of(t[i : i + SIZE], s[i : i + SIZE]) for i in range(0, 30, SIZE)]
    assert found["chance_mean_diagonal"] == pytest.approx(np.mean(chance), abs=1e-5)


def test_only_full_mini_batches_are_in_the_heat_map(pair):
    teacher, student, dev = pair
    assert np.shape(heat_map(teacher, student, dev, SIZE, 99)["map"]) == (6, 6)  # 40 examples


def test_the_shuffled_level_is_always_the_same(pair):
    teacher, _, dev = pair
    found = heat_map(teacher, teacher, dev, SIZE, 6)
    assert np.allclose(np.diagonal(found["map"]), 1)
    assert found["shuffled_mean_diagonal"] < 0.9
    torch.rand(3)
    assert found == heat_map(teacher, teacher, dev, SIZE, 6)


@pytest.mark.parametrize("masked", [False, True])
def test_the_layer_map(pair, masked):
    teacher, student, dev = pair
    found, _ = layers_and_relations(teacher, student, dev, SIZE, masked)
    t, s = states(teacher, dev, masked), states(student, dev, masked)
    batches = [slice(start, start + SIZE) for start in range(0, 36, SIZE)]
    expected = [[np.mean([cka(t[i, at], s[j, at]) for at in batches]) for j in range(4)] for i in range(5)]
    assert np.allclose(found["map"], expected, atol=1e-6)
    chance = [[np.mean([chance_of(t[i, at], s[j, at]) for at in batches]) for j in range(4)] for i in range(5)]
    assert np.allclose(found["chance_map"], chance, atol=1e-5)
    sums = [[np.sum([[hsic(t[i, at], s[j, at]), hsic(t[i, at], t[i, at]), hsic(s[j, at], s[j, at])] for at in batches], axis=0)
             for j in range(4)] for i in range(5)]
    expected = [[both / np.sqrt(one * other) for both, one, other in row] for row in sums]
    assert np.allclose(found["minibatch_map"], expected, atol=1e-5)


def test_minibatch_cka_takes_four_examples(pair):
    teacher, student, dev = pair
    assert layers_and_relations(teacher, student, dev, 3)[0]["minibatch_map"] is None


@pytest.mark.parametrize("masked", [False, True])
def test_the_relation_differences(pair, masked):
    teacher, student, dev = pair
    _, found = layers_and_relations(teacher, student, dev, SIZE, masked)
    t, s = states(teacher, dev, masked)[3], states(student, dev, masked)[2]
    batches = [slice(start, min(start + SIZE, 40)) for start in range(0, 40, SIZE)]
    lengths = dev.lengths.numpy() if masked else np.full(40, LENGTH)
    for metric in ("euclidean", "cosine"):
        inter = [difference(t[at].reshape(-1, LENGTH * 16), s[at].reshape(-1, LENGTH * 8), metric) for at in batches]
        sizes = [(at.stop - at.start) ** 2 for at in batches]
        assert found[f"inter_{metric}"] == pytest.approx(np.average(inter, weights=sizes), rel=1e-4)
        intra = [difference(t[at, :size], s[at, :size], metric) for at, size in enumerate(lengths)]
        assert found[f"intra_{metric}"] == pytest.approx(np.average(intra, weights=lengths**2.0), rel=1e-4)


def test_a_teacher_compared_with_itself(pair):
    teacher, _, dev = pair
    layers, relations = layers_and_relations(teacher, teacher, dev, SIZE)
    for name in ("map", "minibatch_map"):
        assert np.allclose(np.diagonal(layers[name]), 1) and np.allclose(layers[name], np.transpose(layers[name]))
    assert relations == dict.fromkeys(RELATIONS, 0)


def test_too_few_examples_for_a_mini_batch(pair):
    teacher, student, dev = pair
    with pytest.raises(InputError, match="dev has 40 examples, fewer than one mini-batch of 41"):
        heat_map(teacher, student, dev, 41, 1)


@pytest.mark.parametrize("task, teacher, student, expected", [
    ("RTE", [1, 1, 1, 0, 0], [1, 0, 1, 1, 0], (2 / 3, 2 / 3, 2 / 3, 0.6)),
    ("WNLI", [0, 1, 0, 1], [1, 1, 1, 1], (0.5, 1, 2 / 3, 0.5)),
    ("CoLA", [0, 0], [0, 0], (0, 0, 0, 1)),  # nothing positive to find
    ("MNLI", [0, 1, 2, 2], [0, 1, 1, 2], (2.5 / 3, 2.5 / 3, (1 + 2 / 3 + 2 / 3) / 3, 0.75)),
    ("MNLI", [0, 0], [0, 0], (1, 1, 1, 1)),  # classes that neither predicts play no part
    ("MNLI", [0, 0, 0, 0], [0, 0, 0, 2], (1 / 2, 3 / 8, 3 / 7, 0.75)),
])
def test_the_restoration_rate(task, teacher, student, expected):
    found = restoration(find_task(task), np.array(teacher), np.array(student))
    assert found == pytest.approx(dict(zip(("precision", "recall", "f1", "agreement"), expected, strict=True)))


def test_the_restoration_rate_takes_the_teacher_as_the_truth():
    teacher, student = np.random.default_rng(0).integers(0, 3, (2, 50))
    found = restoration(find_task("MNLI"), teacher, student)
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(
        precision_recall_fscore_support(teacher, student, average="macro")[:3])


def test_the_curves_of_a_run_that_was_resumed(tmp_path):
    for steps in ((2, 4, 6), (4, 8)):  # the second process goes on after step 3
        put_first(tmp_path)
        with SummaryWriter(str(tmp_path), purge_step=steps[0] if steps[0] > 2 else None) as writer:
            for step in steps:
                for at, name in enumerate(RELATIONS):
                    writer.add_scalar(f"relations/{name}", step / 2 + at, step)
                writer.add_scalar("train/loss", 1.0, step)
    curves = read_curves(tmp_path)
    assert list(curves) == ["step", *RELATIONS] and curves["step"] == [2, 4, 8]
    assert curves["intra_euclidean"] == [3, 4, 6]


def test_a_run_without_curves(tmp_path, caplog):
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("train/loss", 1.0, 1)
    assert read_curves(tmp_path) is None and "--log_relations" in caplog.text


def test_damaged_event_files(tmp_path):
    path = tmp_path / "events.out.tfevents.1.host"
    path.write_bytes(b"no event" * 99)
    with pytest.raises(InputError, match="cannot read its event files: events.out.tfevents.1.host is damaged; restore them"):
        read_curves(tmp_path)
    path.unlink()
    with SummaryWriter(str(tmp_path)) as writer:
        for step in (2, 4, 6):
            for name in RELATIONS:
                writer.add_scalar(f"relations/{name}", 1.0, step)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    path.write_bytes(good[:-5])  # the last record is not whole: the run was killed
    assert read_curves(tmp_path)["step"] == [2, 4]
    path.write_bytes(good[:300] + bytes([good[300] ^ 1]) + good[301:])
    with pytest.raises(InputError, match="is damaged"):
        read_curves(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="is not a regular file"):
        read_curves(tmp_path)

