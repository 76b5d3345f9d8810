"""Whether a model fits the tokenizer and the length, and hands out what the losses need."""

import torch
from torch import nn

from fsd.models.forward import model_inputs
from fsd.models.kinds import KINDS, kind_of
from fsd.system.errors import InputError, first_line

PADDING_TOLERANCES = 1e-3, 1e-3  # relative, absolute: rounding was seen to change logits by 7e-5, padding by 0.014 and more


def fit(config, tokenizer, max_seq_length, what):
    """Give a config the tokenizer's padding. InputError if it has too few embeddings for its ids or ``max_seq_length``."""
    config.pad_token_id = tokenizer.pad_token_id
    positions = getattr(config, "max_position_embeddings", max_seq_length)
    positions -= config.pad_token_id + 1 if kind_of(config).counts_from_padding else 0
    if max_seq_length > positions:
        raise InputError(f"--max_seq_length {max_seq_length}: {what} has {positions} positions; lower it")
    if (entries := max(tokenizer.get_vocab().values()) + 1) > config.vocab_size:
        raise InputError(f"{what}: its {config.vocab_size} embeddings are fewer than the tokenizer's {entries} entries; "
                         "name the model's own tokenizer with --tokenizer_name")


def output_layer(model):
    """(name, module) of the layer that gives the logits: the last linear layer of that size outside of the base model."""
    within, labels = f"{model.base_model_prefix}.", model.config.num_labels
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [(name, module) for name, module in layers if module.out_features == labels and not name.startswith(within)][-1]


def check_runs(model, tokenizer, max_seq_length, what):
    """InputError if a model of a kind that is not in the table does not hand out its logits and the hidden states of all layers,
    or if its logits change with the padding.

    The model runs on one full and one padded row, and on the second without its padding.
    """
    config, was_training = model.config, model.training
    if config.model_type in KINDS:
        return
    mask, half = torch.ones(2, max_seq_length, dtype=torch.long), (max_seq_length + 1) // 2
    mask[1, half:] = 0
    ids = torch.where(mask == 1, tokenizer.cls_token_id, tokenizer.pad_token_id)
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    try:
        with torch.no_grad():
            outputs = model.eval()(**model_inputs(config, batch), output_hidden_states=True)
            unpadded = model(**model_inputs(config, {name: rows[1:, :half] for name, rows in batch.items()})).logits
        output_layer(model)
        shapes = [tuple(states.shape) for states in (outputs.logits, *outputs.hidden_states)]
        found, reason = shapes, f"it gives {len(shapes) - 1} hidden states, such as {list(shapes[-1])}"
    except Exception as error:  # anything may go wrong in a model that nobody has tried here
        found, reason = None, first_line(error)
    model.train(was_training)
    if found != [(2, config.num_labels), *[(2, max_seq_length, config.hidden_size)] * (config.num_hidden_layers + 1)]:
        raise InputError(f"{what}: models of the kind {config.model_type} do not hand out logits and the hidden states of "
                         f"each layer at length {max_seq_length} ({reason}); name another encoder")
    if not torch.allclose(outputs.logits[1:], unpadded, *PADDING_TOLERANCES, equal_nan=True):
        raise InputError(f"{what}: models of the kind {config.model_type} give other logits when a text is padded, so the batch "
                         "would change the predictions; name another encoder")
