"""The forward pass of a model on an encoded batch."""

from fsd.models.kinds import kind_of, takes_token_types
from fsd.models.packing import packed_inputs, unpacked


def attention_bias(attention_mask):
    """The mask [B, S] as a boolean [B, 1, 1, S], which attention broadcasts.

    With a [B, S] mask, the model checks for padding on the device and so waits for it in every step.
    """
    return attention_mask[:, None, None, :].bool()


def model_inputs(config, batch):
    """The inputs of the model with this config, for an encoded batch."""
    mask = batch["attention_mask"]
    inputs = {"input_ids": batch["input_ids"], "attention_mask": attention_bias(mask) if kind_of(config).head else mask}
    return inputs | {"token_type_ids": batch["token_type_ids"]} if takes_token_types(config) else inputs


def forward(model, batch, layers=(), packing=None):
    """Logits [B, C] of an encoded batch, and {index: hidden states [B, S, d]} for ``layers``.

    With a :class:`fsd.models.packing.Packing` the model runs on the packed rows, if its kind can. The results are the same but
    for rounding and dropout, and hidden states of padding are zero.
    """
    if packing is not None and kind_of(model.config).head:
        return _forward_packed(model, batch, layers, packing)
    outputs = model(**model_inputs(model.config, batch), output_hidden_states=bool(layers))
    return outputs.logits, {layer: outputs.hidden_states[layer] for layer in layers}


def _forward_packed(model, batch, layers, packing):
    kind, config = kind_of(model.config), model.config
    inputs = packed_inputs(batch, packing, config.pad_token_id if kind.counts_from_padding else None)
    if not takes_token_types(config):
        del inputs["token_type_ids"]
    outputs = model.base_model(**inputs, output_hidden_states=bool(layers))
    first_states = outputs.last_hidden_state.flatten(0, 1)[packing.firsts]
    logits = kind.head(model, first_states[:, None])
    shape = batch["input_ids"].shape
    return logits, {layer: unpacked(outputs.hidden_states[layer], packing, shape) for layer in layers}


def last_attention(model, hidden):
    """The last layer's (queries, keys, values), each [B, heads, S, d_head], for kinds with known projections.

    ``hidden`` is the layer's input, ``hidden_states[L − 1]`` [B, S, d].
    """
    kind = kind_of(model.config)
    layer = model.base_model.get_submodule(kind.layers)[-1]
    projections = [layer.get_submodule(path) for path in kind.projections]
    shape = (*hidden.shape[:2], model.config.num_attention_heads, -1)
    hidden = hidden.to(projections[0].weight.dtype)
    return tuple(projection(hidden).view(shape).transpose(1, 2) for projection in projections)
