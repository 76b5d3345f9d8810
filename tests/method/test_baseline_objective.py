"""The baselines as weighted sums of named losses."""

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification

from fsd.method import baselines, losses
from fsd.method.objective import Objective
from fsd.models.forward import attention_bias, forward, last_attention

PAIRS = {"pairs": ((2, 1), (4, 2)), "default_pair": (5, 2)}
KD = {"task_loss": 0.25, "dark_knowledge": 0.75}
BASELINES = {
    "fine-tuning": ({"alpha": 1.0}, {"task_loss": 1.0}, []),
    "PKD": ({"beta": 8.0, "pkd": 1.0}, KD | {"pkd": 8.0}, [(2, 1), (4, 2)]),
    "RKD": ({"rkd_distance": 2.0, "rkd_angle": 4.0}, KD | {"rkd_distance": 2.0, "rkd_angle": 4.0}, [(5, 2)]),
    "MiniLM": ({"beta": 8.0, "minilm": 1.0}, KD | {"attention": 8.0, "value_relation": 8.0}, [(5, 2)]),
}
baseline = pytest.mark.parametrize("method", BASELINES)


def objective_of(method, **changes):
    return Objective(**{"alpha": 0.25, **PAIRS, **BASELINES[method][0], **changes})


@baseline
def test_weights_name_and_layers(method):
    objective = objective_of(method)
    _, weights, pairs = BASELINES[method]
    assert (objective.method, objective.weights, objective.compared_pairs) == (method, weights, pairs)
    assert objective.needs_attention == (method == "MiniLM") and not objective.needs_memory


def test_one_of_rkds_losses_alone():
    assert objective_of("RKD", rkd_angle=0.0).weights == KD | {"rkd_distance": 2.0}
    assert objective_of("RKD", rkd_distance=0.0).method == "RKD"


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@baseline
def test_values(method):
    objective, labels = objective_of(method), torch.tensor([0, 1, 2, 0])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    student = normal(4, 3), {layer: normal(4, 5, 6, seed=layer) for layer in range(4)}
    teacher = normal(4, 3, seed=9), {layer: normal(4, 5, 6, seed=10 + layer) for layer in range(7)}
    heads = tuple(tuple(normal(4, 2, 5, 3, seed=seed + part) for part in range(3)) for seed in (20, 30))
    values = objective.losses(student, teacher, labels, mask, attention=(*heads, mask))
    expected = {"task_loss": losses.task_loss(student[0], labels)}
    if objective.needs_teacher:
        expected["dark_knowledge"] = losses.kd_loss(student[0], teacher[0], 5.0)
    if method == "PKD":
        pairs = [baselines.pkd_loss(student[1][s], teacher[1][t]) for t, s in PAIRS["pairs"]]
        expected["pkd"] = (pairs[0] + pairs[1]) / 2
    if method == "RKD":
        expected["rkd_distance"] = baselines.rkd_distance_loss(student[1][2], teacher[1][5], mask)
        expected["rkd_angle"] = baselines.rkd_angle_loss(student[1][2], teacher[1][5], mask)
    if method == "MiniLM":
        expected["attention"] = baselines.query_key_loss(*heads[0][:2], *heads[1][:2], mask)
        expected["value_relation"] = baselines.value_relation_loss(heads[0][2], heads[1][2], mask)
    assert list(values) == list(objective.weights) == list(expected)
    for name, value in values.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-12), name


def test_the_last_attention_is_that_of_the_model():
    """MiniLM's distributions follow from the input of the last layer, as the model itself computes them."""
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8,
                        max_position_embeddings=8, num_labels=2, attn_implementation="eager")
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 3, 0], [2, 7, 8, 9, 3]]), "attention_mask": mask,
              "token_type_ids": torch.zeros(2, 5, dtype=torch.long)}
    with torch.no_grad():
        expected = model.bert(**inputs, output_attentions=True).attentions[-1]
        _, hidden = forward(model, inputs, [2])
        queries, keys, values = last_attention(model, hidden[2])
    scores = (queries @ keys.mT / 2).masked_fill(~attention_bias(mask), -torch.inf)  # √d_head is 2
    torch.testing.assert_close(F.softmax(scores, dim=-1), expected)
    assert values.shape == (2, 2, 5, 4)
