"""Where a model lies: a folder, or a name on the hub, whose files are downloaded.

Imports nothing heavy, so that a wrong name is told at once.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from fsd.system.errors import InputError

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "added_tokens.json")
DOWNLOADED = ("config.json", WEIGHTS, WEIGHTS_INDEX, "model-*-of-*.safetensors", *TOKENIZER_FILES)
PICKLED_DOWNLOADED = (PICKLED, PICKLED_INDEX, "pytorch_model-*-of-*.bin")  # only where there are no safetensors


@dataclass(frozen=True)
class ModelSource:
    """A model that the command line names: by which flag, under which name, and the folder (or config.json) it lies in."""

    flag: str
    name: str
    folder: Path

    def __str__(self):
        return f"{self.flag} {self.name}"


def find_model(name, flag, cache_dir=None):
    """The :class:`ModelSource` of a path or a hub name; the hub's files are downloaded if they are not there yet.

    Raises:
        InputError: there is neither; names ``flag``.
    """
    if Path(name).exists():
        return ModelSource(flag, str(name), Path(name))
    try:
        return ModelSource(flag, str(name), _downloaded(str(name), cache_dir))
    except Exception as error:  # anything from a name that cannot be one to a connection that broke
        raise InputError(
            f"{flag} {name}: there is no such folder, and the hub has no such model or cannot be reached; check the name"
        ) from error


@functools.cache  # a program asks the hub once for each name
def _downloaded(name, cache_dir):
    from huggingface_hub import snapshot_download  # a fifth of a second, which only names of the hub cost

    folder = Path(snapshot_download(name, cache_dir=cache_dir, allow_patterns=list(DOWNLOADED)))
    if not any((folder / weights).exists() for weights in (WEIGHTS, WEIGHTS_INDEX)):
        snapshot_download(name, cache_dir=cache_dir, allow_patterns=list(PICKLED_DOWNLOADED))
    return folder
