"""Checkpoints of encoders that are written under other names than their parameters have, or that do not use all of these."""

import pytest
import torch
from small_encoders import small_config
from torch.optim.lr_scheduler import ConstantLR
from transformers import BertTokenizer

from fsd.models.student import new_model
from fsd.records.checkpoints import TrainingState, random_states, save_model


class NoLog:
    def state(self):
        return {}, {}

    def load_state(self, tensors, values):
        assert (tensors, values) == ({}, {})


def state_of(model):
    optimizer = torch.optim.AdamW(model.parameters())
    cpu = torch.device("cpu")
    return TrainingState(model, None, optimizer, ConstantLR(optimizer), torch.amp.GradScaler("cpu", enabled=False), NoLog(), cpu)


@pytest.mark.parametrize("kind", ["nomic_bert", "big_bird"])
def test_a_checkpoint_of_any_kind_brings_back_the_same_state(toy_glue, tmp_path, kind):
    tokenizer = BertTokenizer.from_pretrained(toy_glue)
    config = small_config(kind, len(tokenizer))
    state = state_of(new_model(config, 0))
    state.student.eval()(torch.arange(5, 25).view(2, 10)).logits.square().sum().backward()
    state.optimizer.step()
    save_model(tmp_path, state.student, tokenizer)
    state.save(tmp_path, 7, random_states(state.device))
    again = state_of(new_model(config, 1))
    assert again.load(tmp_path) == 7
    for name, value in state.student.state_dict().items():
        assert torch.equal(again.student.state_dict()[name], value), name
    before, after = (found.optimizer.state_dict()["state"] for found in (state, again))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[index][name]) for index, values in before.items() for name, value in values.items())
