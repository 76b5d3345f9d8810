"""Running a model over an encoded batch."""


def attention_bias(attention_mask):
    """The mask [B, S] as the boolean [B, 1, 1, S] that attention broadcasts.

    Given [B, S], the model would ask the device whether any position is padding at all, and so wait for it each step.
    """
    return attention_mask[:, None, None, :].bool()


def forward(model, batch, layers=()):
    """Logits [B, C] and, for ``layers``, {index: hidden states [B, S, d]} of an encoded batch."""
    outputs = model(
        input_ids=batch["input_ids"],
        attention_mask=attention_bias(batch["attention_mask"]),
        token_type_ids=batch["token_type_ids"],
        output_hidden_states=bool(layers),
    )
    return outputs.logits, {layer: outputs.hidden_states[layer] for layer in layers}
