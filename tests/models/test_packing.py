"""Packed rows: every token is there once, sees its own example alone, and comes out as from the whole batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification

from fsd.models.forward import forward
from fsd.models.packing import pack, packed_inputs


def encoded(lengths, size):
    """An encoded batch of these lengths, padded to ``size``."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(size) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 50, mask.shape, generator=generator) * mask
    types = torch.randint(2, mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, num_labels=3,
        max_position_embeddings=20, initializer_range=0.3, attn_implementation="sdpa",
    )).double().eval()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_every_token_has_one_place(lengths):
    size = max(lengths) + 3
    packing = pack(torch.tensor(lengths), size)
    if packing is None:
        return
    rows, width = packing.shape
    assert width == max(lengths) and rows < len(lengths) and sum(lengths) <= rows * width
    assert len(set(packing.packed.tolist())) == sum(lengths) and packing.packed.max() < rows * width
    expected = [example * size + at for example, length in enumerate(lengths) for at in range(length)]
    assert packing.whole.tolist() == expected
    start = 0
    for example, length in enumerate(lengths):  # an example stays in one piece, in one row
        places = packing.packed[start : start + length]
        assert places.tolist() == list(range(packing.firsts[example], packing.firsts[example] + length))
        assert places[0] // width == places[-1] // width
        start += length


@pytest.mark.parametrize("lengths", [[7], [7, 7, 7], [5, 4, 3]])
def test_nothing_is_packed_where_no_row_is_saved(lengths):
    assert pack(torch.tensor(lengths), 7) is None


def test_inputs():
    batch = encoded([4, 1, 2], 6)
    inputs = packed_inputs(batch, pack(torch.tensor([4, 1, 2]), 6))
    ids = batch["input_ids"]
    assert inputs["input_ids"].tolist() == [ids[0, :4].tolist(), [*ids[2, :2].tolist(), ids[1, 0].item(), 0]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    sees = inputs["attention_mask"][1, 0]
    assert sees.tolist() == [[True, True, False, False]] * 2 + [[False, False, True, False], [False, False, False, True]]


@pytest.mark.parametrize("lengths", [[4, 9, 2, 2, 1, 6, 3], [1, 1, 1, 12], [20, 1, 1], [3] * 5 + [18]])
@pytest.mark.parametrize("spare", [0, 2])
def test_the_results_and_gradients_are_those_of_the_whole_batch(model, lengths, spare):
    batch = encoded(lengths, max(lengths) + spare if max(lengths) + spare <= 20 else 20)
    packing = pack(torch.tensor(lengths), batch["input_ids"].shape[1])
    assert packing is not None
    real, results = batch["attention_mask"][..., None], []
    for packed in (None, packing):
        logits, hidden = forward(model, batch, [0, 2, 3], packed)
        total = logits.square().sum() + sum((states * real).pow(3).sum() for states in hidden.values())
        gradients = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
        results.append((logits, hidden, gradients))
    (logits, hidden, gradients), (packed_logits, packed_hidden, packed_gradients) = results
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(packed_logits, logits, **close)
    for layer in hidden:
        torch.testing.assert_close(packed_hidden[layer], hidden[layer] * real, **close)
    for ours, plain in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, plain, **close)
