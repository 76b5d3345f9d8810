"""Loading the tokenizer of a model."""

import logging

from transformers import AutoTokenizer, BertConfig

from fsd.models.loading import quiet_loading
from fsd.models.model_files import check_tokenizer_files
from fsd.system.errors import InputError, first_line

logger = logging.getLogger(__name__)


def load_tokenizer(source, do_lower_case):
    """The tokenizer in the folder of a :class:`ModelSource`; it lower-cases if ``do_lower_case`` is true.

    Raises:
        InputError: the tokenizer cannot be loaded, is not a fast one, or lacks a token that BERT needs.
    """
    check_tokenizer_files(source)

    def load(**options):
        # Passes a config, because the folder may contain only a tokenizer.
        return AutoTokenizer.from_pretrained(source.folder, config=BertConfig(), trust_remote_code=False, **options)

    try:
        with quiet_loading():
            tokenizer = load()
            if do_lower_case and not getattr(tokenizer, "do_lower_case", True):
                logger.warning("--do_lower_case: the tokenizer at %s was saved as cased; it lower-cases now", source.name)
                tokenizer = load(do_lower_case=True)
        needed = tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    except Exception as error:  # from OSError to classes of the tokenizers library
        raise InputError(f"{source}: cannot load a tokenizer: {first_line(error)}; restore its files") from error
    if not tokenizer.is_fast:
        raise InputError(f"{source}: it has no fast tokenizer; name a BERT tokenizer with --tokenizer_name")
    if None in needed:
        raise InputError(f"{source}: the tokenizer lacks [PAD], [CLS] or [SEP]; name a BERT tokenizer with --tokenizer_name")
    return tokenizer
