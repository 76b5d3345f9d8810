"""Where a model lies: a folder, or a name on the hub, whose files are downloaded.

Imports nothing heavy, so that a wrong name can be told at once.
"""

from pathlib import Path

from fsd.files import InputError

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "added_tokens.json")
DOWNLOADED = ("config.json", WEIGHTS, WEIGHTS_INDEX, "model-*-of-*.safetensors", *TOKENIZER_FILES)


def model_folder(name_or_path, flag, cache_dir=None):
    """The folder (or config.json) at a path, or that of a hub name, whose files are downloaded if they aren't yet.

    Raises:
        InputError: there is neither; names ``flag``.
    """
    path = Path(name_or_path)
    if path.exists():
        return path
    from huggingface_hub import snapshot_download  # a fifth of a second, which only names of the hub cost

    try:
        return Path(snapshot_download(str(name_or_path), cache_dir=cache_dir, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # anything from a name that cannot be one to a connection that broke
        raise InputError(f"{flag} {name_or_path}: there is no such folder, and the hub has no such model or cannot be "
                         "reached; check the name") from error  # fmt: skip
