"""The forward pass of a model on an encoded batch."""

from fsd.models.packing import packed_inputs, unpacked


def attention_bias(attention_mask):
    """The mask [B, S] as a boolean [B, 1, 1, S], which attention broadcasts.

    With a [B, S] mask, the model checks for padding on the device and so waits for it in every step.
    """
    return attention_mask[:, None, None, :].bool()


def forward(model, batch, layers=(), packing=None):
    """Logits [B, C] of an encoded batch, and {index: hidden states [B, S, d]} for ``layers``.

    With a :class:`fsd.models.packing.Packing` the model runs on the packed rows. The results are the same but for rounding
    and dropout, and hidden states of padding are zero.
    """
    if packing is not None:
        return _forward_packed(model, batch, layers, packing)
    outputs = model(
        input_ids=batch["input_ids"],
        attention_mask=attention_bias(batch["attention_mask"]),
        token_type_ids=batch["token_type_ids"],
        output_hidden_states=bool(layers),
    )
    return outputs.logits, {layer: outputs.hidden_states[layer] for layer in layers}


def _forward_packed(model, batch, layers, packing):
    outputs = model.bert(**packed_inputs(batch, packing), output_hidden_states=bool(layers))
    first_states = outputs.last_hidden_state.flatten(0, 1)[packing.firsts]
    logits = model.classifier(model.dropout(model.bert.pooler(first_states[:, None])))
    shape = batch["input_ids"].shape
    return logits, {layer: unpacked(outputs.hidden_states[layer], packing, shape) for layer in layers}


def last_attention(model, hidden):
    """The last layer's (queries, keys, values), each [B, heads, S, d_head].

    ``hidden`` is the layer's input, ``hidden_states[L − 1]`` [B, S, d].
    """
    attention = model.bert.encoder.layer[-1].attention.self
    shape = (*hidden.shape[:2], attention.num_attention_heads, attention.attention_head_size)
    hidden = hidden.to(attention.query.weight.dtype)
    projections = attention.query, attention.key, attention.value
    return tuple(projection(hidden).view(shape).transpose(1, 2) for projection in projections)
