"""Checks of a model's files before the model is loaded.

The files are not trusted: no file outside the model's folder is opened, no code from the folder is run, and a model that
does not fit in RAM is reported before anything is allocated.
"""

import math
import re
from dataclasses import fields

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from fsd.models.hub import PICKLED, PICKLED_INDEX, VOCABULARIES, WEIGHTS, WEIGHTS_INDEX
from fsd.models.kinds import KINDS, Kind
from fsd.system.devices import free_ram
from fsd.system.errors import InputError
from fsd.system.files import read_json

# Classes, with or without "Fast" at the end, that read only the files in VOCABULARIES; others open files of more formats.
TOKENIZER_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer",
                     "DebertaTokenizer", "DebertaV2Tokenizer", "AlbertTokenizer", "CamembertTokenizer", "MPNetTokenizer",
                     "PreTrainedTokenizer", "TokenizersBackend")
NOT_READ = {"use_cache", "tie_word_embeddings", "is_decoder", "add_cross_attention"}  # of no use to a classifier
MOST_LAYERS, MOST_LABELS = 1000, 10_000
OTHER_MODELS = {  # entries for other kinds of model, or for files elsewhere
    "auto_map": "it names its own code, which is never run",
    "quantization_config": "it is quantized",
    "transformers_weights": f"it names weights other than {WEIGHTS}",
    "is_decoder": "it is a decoder",
    "add_cross_attention": "it has cross-attention",
    "is_encoder_decoder": "it is an encoder and a decoder",
    "pruned_heads": "it has pruned heads",
}


def read_config(source):
    """The config in the folder (or config.json) of a :class:`ModelSource`; one without a ``model_type`` is a BERT's.

    Raises:
        InputError: it cannot be read, is of a kind without a text classifier, has invalid values, or its model does not fit
            in RAM.
    """
    path = source.folder / "config.json" if source.folder.is_dir() else source.folder
    what = str(source) if source.folder == path else f"{source}: config.json"
    try:
        values = read_json(path)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{what}: not a model's config, which has a model_type and its sizes; restore it")
    return make_config(values, what)


def entries(kind):
    """Names of the config entries that define a model of this kind; all others are ignored."""
    config_class = CONFIG_MAPPING[kind]
    common, own = ({field.name for field in fields(of)} for of in (PreTrainedConfig, config_class))
    return own - common - NOT_READ | {"id2label", "num_labels", *config_class.attribute_map, *KINDS.get(kind, Kind()).entries}


def model_class(config):
    """The class of the models with this config that classify texts."""
    return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]


def attention_of(model_class):
    """The implementation of attention that a class of models runs with."""
    return "sdpa" if model_class._supports_sdpa else "eager"


def make_config(values, what):
    """The config of a config file's entries. InputError, beginning with ``what``, if they do not give a valid encoder."""
    kind = values.get("model_type", "bert")
    if not isinstance(kind, str) or kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise InputError(f"{what}: its model_type is {str(kind)[:60]!r}, a kind of which transformers has no text classifier; "
                         "name an encoder, such as a BERT")
    names = CONFIG_MAPPING[kind].attribute_map
    if any(name not in values and names.get(name) not in values for name in ("hidden_size", "num_hidden_layers")):
        raise InputError(f"{what}: its model_type is {kind}, but it lacks its sizes; restore it")
    for name, reason in OTHER_MODELS.items():
        if values.get(name):
            raise InputError(f"{what}: {reason} ({name}), and this works on plain encoders only; name another")
    if values.get("position_embedding_type", "absolute") not in ("absolute", None):
        raise InputError(f"{what}: its positions are not absolute (position_embedding_type); name another")
    if values.get("id2label") is None and isinstance(label2id := values.get("label2id"), dict):
        values = values | {"id2label": {str(at): label for label, at in label2id.items()}}
    labels = values.get("id2label")
    known = {name: values[name] for name in entries(kind) if name in values}
    for name in ("id2label", "num_labels"):
        if known.get(name, ...) is None:
            del known[name]
    try:
        if not isinstance(known.get("num_labels", 2), int) or not 1 <= known.get("num_labels", 2) <= MOST_LABELS:
            raise ValueError(f"num_labels is not a whole number from 1 to {MOST_LABELS}")  # all the names would be made
        if labels is not None and set(labels) != {str(at) for at in range(len(labels))}:
            raise ValueError(f"id2label has the classes {', '.join(map(str, labels))}, not 0, 1, … to the number of labels")
        if damaged := [name for name, value in known.items() if isinstance(value, float) and not math.isfinite(value)]:
            raise ValueError(f"{damaged[0]} is {known[damaged[0]]}")
        config_class = CONFIG_MAPPING[kind]
        is_fraction = {name: isinstance(getattr(config_class, name, None), float) for name in known}
        fractions = {name: float(known[name]) for name in known if is_fraction[name] and type(known[name]) is int}  # 0 for 0.0
        config = config_class(**known | fractions)
        _check(config)
        with torch.device("meta"):  # checks that the sizes fit together and counts them, without allocating
            size = 4 * sum(parameter.numel() for parameter in model_class(config)(config).parameters())
    except Exception as error:  # transformers raises many classes, some of its own
        reason = " ".join(line.strip() for line in str(error).splitlines()) or type(error).__name__
        raise InputError(f"{what}: {reason[:200]}; restore it, or name another") from error
    free = free_ram()
    if free is not None and size > free:
        raise InputError(f"{what}: its sizes make a model of {size / 1e9:,.0f} GB, and {free / 1e9:,.0f} GB of RAM are free; "
                         "name a smaller one")
    config.label2id = {label: at for at, label in config.id2label.items()}
    return config


def _check(config):
    """ValueError for bad values that transformers accepts here."""
    if config.is_encoder_decoder or config.sub_configs:
        raise ValueError("it is made of several models, such as an encoder and a decoder")
    for name, most in (("num_hidden_layers", MOST_LAYERS), ("vocab_size", 2**31),
                       ("hidden_size", 2**20), ("num_attention_heads", 2**20), ("intermediate_size", 2**24),
                       ("max_position_embeddings", 2**31), ("type_vocab_size", 2**31)):
        value, least = getattr(config, name, None), int(getattr(type(config), name, 1) != 0)  # some kinds have no token types
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name} is not a whole number from {least} to {most}")
    epsilon, spread = getattr(config, "layer_norm_eps", 1), getattr(config, "initializer_range", 0)
    if not 0 < epsilon <= 1 or not 0 <= spread <= 100:
        raise ValueError(f"layer_norm_eps is {epsilon} and initializer_range {spread}")
    if not all(isinstance(label, str) for label in config.id2label.values()):
        raise ValueError("id2label is not a name for each class")
    if config.pad_token_id is not None and not 0 <= config.pad_token_id < config.vocab_size:
        raise ValueError(f"pad_token_id is {config.pad_token_id}, not an entry of a vocabulary of {config.vocab_size}")


def check_weights(source):
    """Check the weight files of a model.

    Returns:
        True for safetensors, False for pickled tensors (``pytorch_model.bin``).

    Raises:
        InputError: the folder has no weights, an index that names files elsewhere, or an adapter instead of a model.
    """
    folder = source.folder
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{source}: it holds an adapter (adapter_config.json); merge it into its model and name that")
    for weights, index, suffix in ((WEIGHTS, WEIGHTS_INDEX, "safetensors"), (PICKLED, PICKLED_INDEX, "bin")):
        if (folder / weights).is_file():
            return suffix == "safetensors"
        if (folder / index).is_file():
            check_index(folder / index, suffix, source)
            return suffix == "safetensors"
    raise InputError(f"{source}: it has neither {WEIGHTS} nor {PICKLED}; restore it, or name another")


def check_index(path, suffix, source):
    """InputError if an index of weights names anything but files with this suffix in its own folder."""
    value = read_json(path)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not names:
        raise InputError(f"{source}: {path.name} has no weight_map; restore the file")
    for name in names.values():
        if not isinstance(name, str) or not re.fullmatch(rf"[\w.-]+\.{suffix}", name) or not path.with_name(name).is_file():
            shown = str(name)[:60]
            raise InputError(f"{source}: {path.name} names {shown!r}, which is not a {suffix} file beside it; restore it")


def has_vocabulary(source):
    """Whether a model's folder has a tokenizer."""
    return any((source.folder / name).is_file() for name in VOCABULARIES)


def check_tokenizer_files(source):
    """InputError if the tokenizer's files are missing or damaged, contain code, or name a class other than an encoder's."""
    if not has_vocabulary(source):
        raise InputError(f"{source}: it has none of {', '.join(VOCABULARIES)}; name a tokenizer with --tokenizer_name")
    path = source.folder / "tokenizer_config.json"
    if not path.is_file():
        return
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{source}: {path.name} is not a JSON object; restore the file")
    if value.get("auto_map"):
        raise InputError(f"{source}: {path.name} names its own code (auto_map), which is never run; name another tokenizer")
    if isinstance(value.get("vocab"), str) or isinstance(value.get("merges"), str):
        raise InputError(f"{source}: {path.name} names a file of its vocabulary (vocab, merges); name another tokenizer")
    name = value.get("tokenizer_class")
    if name is not None and str(name).removesuffix("Fast") not in TOKENIZER_CLASSES:
        raise InputError(f"{source}: {path.name}: tokenizer_class is {str(name)[:60]!r}; {', '.join(TOKENIZER_CLASSES)} are "
                         "read; name another tokenizer")
