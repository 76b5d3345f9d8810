"""What each kind of model keeps where: the facts for which transformers has no common name. Imports nothing heavy.

A kind is the ``model_type`` of a config. A kind that is not in the table works, too, but not with MiniLM. Its batches run whole
and not packed, and a teacher memory is built with all of its layers.
"""

from collections.abc import Callable
from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of model. The defaults are what holds for every kind.

    Attributes:
        layers: path of the list of layers in the base model; None if something follows the last layer.
        projections: paths in a layer of the projections to queries, keys and values. The attention follows from them alone.
        head: the function from the model and the last hidden states of the first tokens [B, 1, d] to logits [B, C].
            Kinds with a head take packed rows, with attention masks of four dimensions.
        counts_from_padding: positions start after the padding token's id, and not at 0.
        entries: the config's entries that the model reads but its config class does not declare.
    """

    layers: str | None = None
    projections: tuple = ()
    head: Callable | None = None
    counts_from_padding: bool = False
    entries: tuple = ()


BERT_LAYER = ("attention.self.query", "attention.self.key", "attention.self.value")


def _classifier(model, first):
    return model.classifier(first)


KINDS = {
    "bert": Kind("encoder.layer", BERT_LAYER, lambda model, first: model.classifier(model.dropout(model.bert.pooler(first)))),
    "distilbert": Kind(
        "transformer.layer", ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        lambda model, first: model.classifier(model.dropout(model.pre_classifier(first[:, 0]).relu())),
    ),
    "electra": Kind("encoder.layer", BERT_LAYER, _classifier),
    "roberta": Kind("encoder.layer", BERT_LAYER, _classifier, counts_from_padding=True),
    "xlm-roberta": Kind("encoder.layer", BERT_LAYER, _classifier, counts_from_padding=True),
    "deberta-v2": Kind("encoder.layer", entries=(
        "position_buckets", "norm_rel_ebd", "share_att_key", "conv_kernel_size", "conv_act", "conv_groups", "cls_dropout",
        "pooler_hidden_size", "embedding_size", "attention_head_size",
    )),
    "modernbert": Kind(entries=("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")),
}


def kind_of(config):
    """The :class:`Kind` of the model with this config."""
    return KINDS.get(config.model_type, Kind())


def takes_token_types(config):
    """Whether the model with this config tells the two texts of a pair apart by token types."""
    return getattr(config, "type_vocab_size", 0) > 1
