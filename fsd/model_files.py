"""A model's files, looked at before anything is loaded from them: what they say about sizes, code and other files.

Models come from anywhere. Nothing that their files name outside their folder is opened, no code that they bring is run,
no pickle is opened, and sizes that no machine holds are told before anything is allocated.
"""

import re

from transformers import BertConfig
from transformers.activations import ACT2FN

from fsd.files import InputError, read_json
from fsd.hardware import available_memory
from fsd.hub import WEIGHTS, WEIGHTS_INDEX

# Those that are BERT's WordPiece, or are read from tokenizer.json alone; others open files of further formats.
TOKENIZER_CLASSES = ("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast",
                     "PreTrainedTokenizerFast", "TokenizersBackend")

SIZES = {  # config entry → largest value; what these make together is checked against the memory
    "vocab_size": 2**31, "hidden_size": 2**20, "num_hidden_layers": 1000, "num_attention_heads": 2**20,
    "intermediate_size": 2**24, "max_position_embeddings": 2**31, "type_vocab_size": 2**31,
}  # fmt: skip
NUMBERS = {  # config entry → (least, largest)
    "hidden_dropout_prob": (0, 1), "attention_probs_dropout_prob": (0, 1), "classifier_dropout": (0, 1),
    "layer_norm_eps": (1e-30, 1), "initializer_range": (0, 100),
}  # fmt: skip
LABELS = ("id2label", "num_labels")
TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")
MOST_LABELS = 10_000
# Entries that would make another model of it, or load from elsewhere; all others are of no account here.
OTHER_MODELS = {
    "auto_map": "it names code of its own, which is never run",
    "quantization_config": "it is quantized",
    "transformers_weights": f"it names weights other than {WEIGHTS}",
    "is_decoder": "it is a decoder",
    "add_cross_attention": "it has cross-attention",
    "is_encoder_decoder": "it is an encoder and a decoder",
    "pruned_heads": "it has pruned heads",
}


def read_config(path, what):
    """The :class:`BertConfig` in a config.json, or in the folder of one; entries that BERT has no use for are left out.

    Raises:
        InputError: it cannot be read, is not a BERT's, or its values make no BERT that this machine holds; begins with
            ``what``.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        values = read_json(path)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    what = what if what.endswith(path.name) else f"{what}: {path.name}"
    kind = values.get("model_type", "bert") if isinstance(values, dict) else None
    if kind != "bert" or not {"hidden_size", "num_hidden_layers"} <= values.keys():
        raise InputError(f"{what}: a {kind} model; this works on BERTs only" if isinstance(kind, str) and kind != "bert" else
                         f"{what}: no BERT's config, which has model_type bert and its sizes")  # fmt: skip
    return make_config(values, what)


def make_config(values, what):
    """The :class:`BertConfig` of a config's entries. InputError where they make no BERT; begins with ``what``."""
    if problem := _problem(values):
        raise InputError(f"{what}: {problem}; restore it, or name another")
    known = (*SIZES, *NUMBERS, *LABELS, *TOKENS, "hidden_act")
    given = {name: values[name] for name in known if name in values and not (name in LABELS and values[name] is None)}
    given |= {name: float(given[name]) for name in NUMBERS if given.get(name) is not None}  # JSON may write 0 for 0.0
    config = BertConfig(**given)
    config.label2id = {label: at for at, label in config.id2label.items()}
    check_size(config, what)
    return config


def _problem(values):
    """What is wrong with a config's entries, or None."""
    for name, most in SIZES.items():
        if name in values and not _is_whole(values[name], 1, most):
            return f"{name} is {_shown(values[name])}, not a whole number from 1 to {most}"
    for name, (least, most) in NUMBERS.items():
        value = values.get(name, least)
        optional = name == "classifier_dropout" and value is None
        if not optional and (type(value) not in (int, float) or not least <= value <= most):
            return f"{name} is {_shown(value)}, not a number from {least} to {most}"
    heads, width = values.get("num_attention_heads", 12), values["hidden_size"]
    if width % heads:
        return f"hidden_size {width} is no multiple of num_attention_heads {heads}"
    activation = values.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACT2FN:
        return f"hidden_act is {_shown(activation)}, which is no activation; BERT's is gelu"
    vocabulary = values.get("vocab_size", 30522)
    for name in TOKENS:
        if values.get(name) is not None and not _is_whole(values[name], 0, vocabulary - 1):
            return f"{name} is {_shown(values[name])}, not an entry of a vocabulary of {vocabulary}"
    for name, reason in OTHER_MODELS.items():
        if values.get(name):
            return f"{reason} ({name}), and this works on plain BERTs only"
    if values.get("position_embedding_type", "absolute") not in ("absolute", None):
        return "its positions are not absolute (position_embedding_type), and this works on plain BERTs only"
    return _label_problem(values)


def _label_problem(values):
    names = values.get("id2label")
    count = values.get("num_labels")
    if count is not None and not _is_whole(count, 1, MOST_LABELS):
        return f"num_labels is {_shown(count)}, not a whole number from 1 to {MOST_LABELS}"
    if names is None:
        return None
    if not isinstance(names, dict) or not 1 <= len(names) <= MOST_LABELS or not all(isinstance(n, str) for n in names.values()):
        return f"id2label is {_shown(names)}, not a name for each class"
    if set(names) != {str(at) for at in range(len(names))} or count not in (None, len(names)):
        return f"id2label has the classes {_shown(', '.join(names))}, not 0, 1, … to the number of labels"
    return None


def _is_whole(value, least, most):
    return type(value) is int and least <= value <= most


def _shown(value):
    text = str(value) if type(value) is not int or value.bit_length() < 999 else "a number of too many digits"
    return text if len(text) <= 60 else text[:60] + "…"


def check_size(config, what):
    """Refuse a config whose parameters alone are more than the memory that is free; begins with ``what``."""
    width, inner = config.hidden_size, config.intermediate_size
    embeddings = (config.vocab_size + config.max_position_embeddings + config.type_vocab_size + 2) * width
    layer = 4 * width * (width + 1) + 2 * width * inner + inner + 5 * width
    size = 4 * (embeddings + config.num_hidden_layers * layer + width * (width + 1) + config.num_labels * (width + 1))
    if size > (free := available_memory()):
        raise InputError(f"{what}: its sizes make a model of {size / 1e9:,.0f} GB, and {free / 1e9:,.0f} GB of memory are free; "
                         "name a smaller one")  # fmt: skip


def check_weights(folder, what):
    """Refuse a folder whose weights are no safetensors files, lie elsewhere, or are an adapter; begins with ``what``."""
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{what}: it holds an adapter (adapter_config.json); merge it into its model and name that")
    if (folder / WEIGHTS).is_file():
        return
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        found = f"only {pickled[0]}, and pickled weights are never opened; " if pickled else ""
        raise InputError(f"{what}: it has no {WEIGHTS}; {found}save the model again with save_pretrained of transformers")
    value = read_json(index)
    names = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(names, dict) or not names:
        raise InputError(f"{what}: {index.name} has no weight_map; restore the file")
    for name in names.values():
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.safetensors", name) or not (folder / name).is_file():
            raise InputError(f"{what}: {index.name} names {_shown(name)!r}, which is no safetensors file beside it; restore it")


def check_tokenizer_files(folder, what):
    """Refuse a tokenizer that brings code, or is of a class that is no BERT's; begins with ``what``."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise InputError(f"{what}: it has no tokenizer, neither tokenizer.json nor vocab.txt; name one with --tokenizer_name")
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{what}: {path.name} is no JSON object; restore the file")
    if value.get("auto_map"):
        raise InputError(f"{what}: {path.name} names code of its own (auto_map), which is never run; name another tokenizer")
    name = value.get("tokenizer_class")
    if name is not None and name not in TOKENIZER_CLASSES:
        raise InputError(f"{what}: {path.name}: tokenizer_class is {_shown(name)!r}; {', '.join(TOKENIZER_CLASSES)} are read; "
                         "name another tokenizer")  # fmt: skip
