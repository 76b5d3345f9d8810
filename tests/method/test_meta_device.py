"""On the meta device a tensor that was made on the CPU by mistake cannot meet the others: so it is found without a GPU."""

from contextlib import nullcontext

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from fsd.method import global_structure
from fsd.method.chance import chance_cka
from fsd.method.cka import linear_cka
from fsd.method.objective import Objective
from fsd.method.relations import relation_differences
from fsd.method.similarity import gram_distance, procrustes_distance
from fsd.models.forward import forward, last_attention
from fsd.models.packing import pack

META = torch.device("meta")
PAIRS = {"pairs": ((2, 1), (4, 2)), "default_pair": (5, 2)}
METHODS = {
    "KD": {}, "FSD_I": {"gamma_i": 1.0}, "FSD_I released": {"gamma_i": 1.0, "released_intra": True}, "FSD_L": {"gamma_l": 1.0},
    "FSD_ILG debiased": {"gamma_i": 1.0, "gamma_l": 1.0, "gamma_g": 1.0, "debiased": True},
    **{f"FSD_ILG {name}": {"gamma_i": 1.0, "gamma_l": 1.0, "gamma_g": 1.0, "similarity": name, "normalize_distances": True}
       for name in ("procrustes", "gram")},
    "FSD_G": {"gamma_g": 1.0}, "PKD": {"pkd": 1.0}, "RKD": {"rkd_distance": 1.0, "rkd_angle": 1.0}, "MiniLM": {"minilm": 1.0},
}


@pytest.fixture
def plain_autocast(monkeypatch):
    """autocast knows no meta device; the losses use it only to switch it off."""
    monkeypatch.setattr(torch, "autocast", lambda *values, **flags: nullcontext())


def normal(*shape):
    return torch.randn(shape, device=META, requires_grad=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("classes", [3, 1])
def test_every_loss_and_its_backward(plain_autocast, method, masked, classes):
    objective = Objective(0.5, 5.0, 2.0, **METHODS[method], **PAIRS)
    student = normal(4, classes), {layer: normal(4, 6, 8) for layer in range(4)}
    teacher = normal(4, classes), {layer: normal(4, 6, 8) for layer in range(7)}
    labels = torch.zeros(4, device=META) if classes == 1 else torch.zeros(4, dtype=torch.long, device=META)
    mask = torch.ones(4, 6, dtype=torch.long, device=META)
    memory = normal(5, 48)
    values = objective.losses(
        student, teacher, labels, mask if masked else None, global_structure.memory_products(memory),
        global_structure.memory_products(torch.randn(5, 48, device=META)),
        (tuple(normal(4, 2, 6, 4) for _ in range(3)), tuple(normal(4, 2, 6, 4) for _ in range(3)), mask),
    )
    total = objective.total(values)
    total.backward()
    assert total.device == META and student[0].grad.device == META
    assert all(value.device == META and not value.shape for value in values.values())


def test_cka_and_the_relation_differences(plain_autocast):
    student, teacher, mask = normal(4, 6, 8), normal(4, 6, 5), torch.ones(4, 6, dtype=torch.long, device=META)
    assert linear_cka(student, teacher).device == linear_cka(student, teacher, debiased=True).device == META
    assert chance_cka(student, teacher).device == META
    for distance in (procrustes_distance, gram_distance):
        value = distance(student, teacher).sum()
        value.backward()
        assert value.device == META
    for given in (None, mask):
        assert all(value.device == META for value in relation_differences(student, teacher, given).values())


def test_a_packed_forward_pass():
    lengths = torch.tensor([5, 2, 2, 1])
    packing = pack(lengths, 6).to(lambda tensor: tensor.to(META))
    with META:
        model = BertForSequenceClassification(BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, num_labels=3,
        ))
        batch = {name: torch.zeros(4, 6, dtype=torch.long) for name in ("input_ids", "token_type_ids", "attention_mask")}
    logits, hidden = forward(model, batch, [1], packing)
    assert logits.shape == (4, 3) and hidden[1].shape == (4, 6, 8)
    assert all(part.device == META for part in (logits, hidden[1], *last_attention(model, hidden[1])))
    (logits.sum() + hidden[1].sum()).backward()
