"""Loading the tokenizer of a model."""

import json
import logging

from tokenizers import Tokenizer, normalizers
from transformers import CONFIG_MAPPING, AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from fsd.models.kinds import takes_token_types
from fsd.models.loading import quiet_loading
from fsd.models.model_files import check_tokenizer_files, has_vocabulary
from fsd.system.errors import InputError, first_line
from fsd.system.files import read_json

logger = logging.getLogger(__name__)


def load_tokenizer(source, do_lower_case):
    """The tokenizer in the folder of a :class:`ModelSource`.

    Its files decide whether it lower-cases. With ``do_lower_case`` it lower-cases whatever they say, with a warning if they
    say cased.

    Raises:
        InputError: the tokenizer cannot be loaded, is not a fast one, or lacks a token that encoders need.
    """
    check_tokenizer_files(source)
    try:
        with quiet_loading():
            tokenizer = _load(source)
            if not tokenizer.is_fast:
                raise InputError(f"{source}: it has no fast tokenizer; name an encoder's tokenizer with --tokenizer_name")
            normalizer = _own_normalizer(source, tokenizer)
            if do_lower_case and _is_cased(normalizer):
                logger.warning("--do_lower_case: the tokenizer at %s was saved as cased; it lower-cases now", source.name)
                normalizer = _lower_casing(normalizer)
            tokenizer = _with_normalizer(tokenizer, normalizer, source)
        needed = tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    except InputError:
        raise
    except Exception as error:  # from OSError to classes of the tokenizers library
        raise InputError(f"{source}: cannot load a tokenizer: {first_line(error)}; restore its files") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(f"{source}: cannot load a tokenizer: its vocabulary is empty; restore its files")
    if None in needed:
        raise InputError(f"{source}: the tokenizer lacks [PAD], [CLS] or [SEP]; name an encoder's with --tokenizer_name")
    return tokenizer


def check_same_vocabulary(source, tokenizer):
    """InputError if a model has a tokenizer of its own, with another vocabulary than this one, which is the teacher's."""
    if has_vocabulary(source) and load_tokenizer(source, False).get_vocab() != tokenizer.get_vocab():
        raise InputError(f"{source}: its tokenizer has another vocabulary than the teacher's, and both models must read the same "
                         "token ids; name a model that shares the teacher's tokenizer")


def input_names(config):
    """What a tokenizer gives to the model with this config."""
    return [name for name in BertTokenizer.model_input_names if name != "token_type_ids" or takes_token_types(config)]


def _load(source, **options):
    # Of the model's config, only its kind; the folder may contain only a tokenizer. The input names, because
    # PreTrainedTokenizerFast leaves out token types by default.
    path = source.folder / "config.json"
    values = read_json(path) if path.is_file() else {}
    kind = values.get("model_type") if isinstance(values, dict) else None
    config = CONFIG_MAPPING[kind if isinstance(kind, str) and kind in CONFIG_MAPPING else "bert"]()
    return AutoTokenizer.from_pretrained(source.folder, config=config, trust_remote_code=False,
                                         model_input_names=BertTokenizer.model_input_names, **options)


def _own_normalizer(source, tokenizer):
    """The normalizer in tokenizer.json, or the loaded tokenizer's if there is no such file; may be None."""
    # BertTokenizer takes only the vocabulary from tokenizer.json.
    path = source.folder / "tokenizer.json"
    return (Tokenizer.from_file(str(path)) if path.is_file() else tokenizer.backend_tokenizer).normalizer


def _is_cased(normalizer):
    return normalizer is None or normalizer.normalize_str("THE") != normalizer.normalize_str("the")


def _lower_casing(normalizer):
    """This normalizer, made to lower-case. BERT's then also strips accents, unless its options say otherwise."""
    if isinstance(normalizer, normalizers.BertNormalizer):
        options = _options(normalizer)
        options.pop("type")
        return normalizers.BertNormalizer(**options | {"lowercase": True})
    return normalizers.Sequence([normalizers.Lowercase(), *([normalizer] if normalizer else [])])


def _with_normalizer(tokenizer, normalizer, source):
    """The tokenizer with this normalizer, which is kept if the tokenizer is saved and loaded again."""
    wanted = _options(normalizer)
    if _options(tokenizer.backend_tokenizer.normalizer) == wanted:
        return tokenizer
    if isinstance(tokenizer, BertTokenizer) and isinstance(normalizer, normalizers.BertNormalizer):
        tokenizer = _load(source, do_lower_case=wanted["lowercase"], strip_accents=wanted["strip_accents"],
                          tokenize_chinese_chars=wanted["handle_chinese_chars"])
        if _options(tokenizer.backend_tokenizer.normalizer) == wanted:
            return tokenizer
    tokenizer.backend_tokenizer.normalizer = normalizer
    if type(tokenizer) is PreTrainedTokenizerFast:
        return tokenizer
    # Other classes, saved and loaded, would make their own normalizer again; this class reads it from tokenizer.json.
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, model_max_length=tokenizer.model_max_length,
                                   model_input_names=tokenizer.model_input_names, **tokenizer.special_tokens_map)


def _options(normalizer):
    """A normalizer's entry in tokenizer.json."""
    return normalizer and json.loads(normalizer.__getstate__())
