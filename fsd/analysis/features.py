"""The hidden states of a model over a dataset, one mini-batch at a time."""

import torch

from fsd.method.losses import zero_padding
from fsd.models.forward import forward
from fsd.system.errors import InputError


def mini_batches(dataset, batch_size, at_most=None, full=True):
    """Index tensors of consecutive mini-batches.

    Args:
        at_most: the number of mini-batches to stop after; None for all.
        full: leave out a last one that is smaller.

    Raises:
        InputError: the dataset has fewer examples than one mini-batch.
    """
    if len(dataset) < batch_size:
        raise InputError(f"{dataset.split} has {len(dataset)} examples, fewer than one mini-batch of {batch_size}; "
                         "lower --cka_batch_size")
    batches = torch.arange(len(dataset)).split(batch_size)
    return batches[: len(dataset) // batch_size if full else None][:at_most]


@torch.no_grad()
def hidden_states(model, batch, layers, mask_padding=False):
    """The hidden states of a model in eval mode: a list of [B, S, d] in float32, one for each index in ``layers``.

    Args:
        batch: the model's inputs, as :meth:`fsd.glue.dataset.EncodedDataset.batch` makes them.
        mask_padding: set padded positions to zero.

    Raises:
        InputError: the model's hidden states are not finite.
    """
    _, states = forward(model, batch, layers)
    mask = batch["attention_mask"] if mask_padding else None
    states = [zero_padding(states[layer], mask) for layer in layers]
    if not all(bool(torch.isfinite(state).all()) for state in states):
        raise InputError(f"{model.name_or_path}: its hidden states are NaN or infinite; it has diverged, train it again")
    return states


def penultimate(model):
    """The index into ``hidden_states`` of the input of the last layer, L − 1."""
    return model.config.num_hidden_layers - 1
