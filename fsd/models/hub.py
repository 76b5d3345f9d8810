"""Finding a model: a folder, or a name on the hub, from which it is downloaded.

Imports only light modules, so that a wrong name is reported at once.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from fsd.system.errors import InputError, first_line

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# A tokenizer is one of these files, and in the case of vocab.json also merges.txt. The last two are sentencepiece's.
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spm.model")
TOKENIZER_FILES = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
RECORD_FILE = "training_args.json"  # a run's settings and its data; marks the folder as one of ours
DOWNLOADED = ("config.json", RECORD_FILE, WEIGHTS, WEIGHTS_INDEX, "model-*-of-*.safetensors", *TOKENIZER_FILES)
PICKLED_DOWNLOADED = (PICKLED, PICKLED_INDEX, "pytorch_model-*-of-*.bin")  # only if there are no safetensors


@dataclass(frozen=True)
class ModelSource:
    """A model from the command line: its flag, its name, and its folder (or config.json)."""

    flag: str
    name: str
    folder: Path

    def __str__(self):
        return f"{self.flag} {self.name}"


def find_model(name, flag, cache_dir=None):
    """The :class:`ModelSource` of a path or a hub name; files from the hub are downloaded once.

    Raises:
        InputError: there is no such folder and no such model on the hub; the message names ``flag``.
    """
    if Path(name).exists():
        return ModelSource(flag, str(name), Path(name))
    try:
        return ModelSource(flag, str(name), _downloaded(str(name), cache_dir))
    except Exception as error:  # many classes, from invalid names to broken connections
        raise InputError(
            f"{flag} {name}: there is no such folder, and the hub gives no such model ({first_line(error)}); check the name"
        ) from error


@functools.cache  # ask the hub once per name
def _downloaded(name, cache_dir):
    from huggingface_hub import snapshot_download  # takes 0.2 s, so only for names on the hub

    folder = Path(snapshot_download(name, cache_dir=cache_dir, allow_patterns=list(DOWNLOADED)))
    if not any((folder / weights).exists() for weights in (WEIGHTS, WEIGHTS_INDEX)):
        snapshot_download(name, cache_dir=cache_dir, allow_patterns=list(PICKLED_DOWNLOADED))
    return folder
