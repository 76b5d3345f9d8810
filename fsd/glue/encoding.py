"""GLUE splits as token ids: encoded once, then cached next to the task's files.

The name of a cache contains a hash of its inputs, so a cache of another file, tokenizer or length is never read.
"""

import json
import logging
import zlib
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fsd.glue.dataset import EncodedDataset
from fsd.glue.files import find_split, find_task_folder, read_split
from fsd.glue.origin import DataOrigin, split_source
from fsd.system.errors import InputError
from fsd.system.files import written_whole
from fsd.system.hashes import file_hash, json_hash
from fsd.system.launcher import is_main_process
from fsd.system.logs import progress_bar
from fsd.system.processes import main_process_first

logger = logging.getLogger(__name__)

CACHE_FORMAT = 2
CHUNK = 4096  # examples per tokenizer call: enough to use all cores, few enough to keep the progress bar moving


def encode_split(task, data_dir, split, tokenizer, max_seq_length, overwrite_cache=False):
    """The :class:`EncodedDataset` of one split, from its cache if there is one.

    Pairs are cut to ``max_seq_length`` tokens, the longer text first. The cache lies in ``cached_encodings/`` in the
    task's folder. A damaged cache is made again; if the folder is not writable there is no cache. Both log one warning.
    With several processes, the main process encodes and the others read its cache.

    Raises:
        InputError: as :func:`fsd.glue.files.read_split`, or the tokenizer or length does not fit.
    """
    _check_tokenizer(task, tokenizer, max_seq_length)
    entries = max(tokenizer.get_vocab().values()) + 1
    path = find_split(task, data_dir, split)
    task_folder, data_hash = find_task_folder(task, data_dir), file_hash(path)
    origin = DataOrigin(data_hash, data_hash, split_source(task_folder))
    fingerprint = json_hash(
        [CACHE_FORMAT, task.definition, split, data_hash, tokenizer_hash(tokenizer), tokenizer.pad_token_id, max_seq_length]
    )
    folder = task_folder / "cached_encodings"
    cache = folder / f"{split}-{max_seq_length}-{fingerprint[:16]}.safetensors"
    with main_process_first():
        if cache.is_file() and not (overwrite_cache and is_main_process()):
            try:
                return replace(_read_cache(cache, split, fingerprint), origin=origin)
            except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
                logger.warning("%s is damaged (%s); encoding again", cache, error)
        dataset = _encode(read_split(task, data_dir, split), tokenizer, max_seq_length, fingerprint)
        if (largest := int(dataset.input_ids.max())) >= entries or dataset.token_type_ids.max() > 1:
            what = f"the token id {largest} of {entries}, or a token type above 1"
            raise InputError(f"{path}: this tokenizer gives {what}; name an encoder's tokenizer with --tokenizer_name")
        try:
            _write_cache(cache, dataset)
        except (InputError, SafetensorError) as error:
            logger.warning("continuing without a cache of the encoding: %s", error)
        return replace(dataset, origin=origin)


def tokenizer_hash(tokenizer):
    """SHA-256 (hex) of a fast tokenizer's vocabulary, normalisation and templates, without its truncation and padding."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content.pop("truncation")
    content.pop("padding")
    return json_hash(content)


def _check_tokenizer(task, tokenizer, max_seq_length):
    special = tokenizer.num_special_tokens_to_add(pair=task.pair)
    if special < 2:
        raise InputError("the tokenizer puts no [CLS] and [SEP] around a text; name an encoder's tokenizer with --tokenizer_name")
    if max_seq_length < special + len(task.text_columns):
        raise InputError(f"--max_seq_length {max_seq_length} leaves no room for text beside {special} special tokens")


def _encode(split, tokenizer, max_seq_length, fingerprint):
    """Token ids of a :class:`fsd.glue.files.Split`."""
    from tokenizers import Tokenizer

    # A copy, so that the caller's tokenizer does not change.
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.enable_truncation(max_seq_length, strategy="longest_first", direction="right")
    examples = split.texts_a if split.texts_b is None else list(zip(split.texts_a, split.texts_b, strict=True))
    input_ids = np.full((len(examples), max_seq_length), tokenizer.pad_token_id, dtype=np.int32)
    type_ids = np.zeros((len(examples), max_seq_length), dtype=np.uint8)
    lengths = np.empty(len(examples), dtype=np.int64)
    positions = np.arange(max_seq_length)
    with progress_bar(total=len(examples), desc=f"encoding {split.task.name} {split.name}", unit="example", delay=1) as bar:
        for start in range(0, len(examples), CHUNK):
            try:
                encodings = backend.encode_batch_fast(examples[start:start + CHUNK])
            except Exception as error:  # the tokenizers library raises no narrower class
                reason = f"the tokenizer cannot encode it ({error})"
                raise InputError(f"{split.path}: {reason}; name an encoder's tokenizer with --tokenizer_name") from error
            rows = slice(start, start + len(encodings))
            lengths[rows] = [len(encoding) for encoding in encodings]
            used = positions < lengths[rows, None]
            input_ids[rows][used] = _flat(encoding.ids for encoding in encodings)
            type_ids[rows][used] = _flat(encoding.type_ids for encoding in encodings)
            bar.update(len(encodings))
    labels = None
    if split.labels is not None:
        labels = torch.tensor(split.labels, dtype=torch.float32 if split.task.regression else torch.int64)
    return EncodedDataset(torch.from_numpy(input_ids), torch.from_numpy(type_ids), torch.from_numpy(lengths), labels,
                          split.index, split.name, fingerprint)


def _flat(lists):
    return np.fromiter(chain.from_iterable(lists), dtype=np.int32)


def _checksum(tensors, index):
    """CRC-32 of the cached content; safetensors does not detect flipped bits."""
    crc = zlib.crc32(index.encode())
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {tensor.dtype} {tensor.shape}".encode(), crc)
        crc = zlib.crc32(tensor.numpy(), crc)
    return str(crc)


def _write_cache(path, dataset):
    tensors = {"input_ids": dataset.input_ids, "token_type_ids": dataset.token_type_ids, "lengths": dataset.lengths}
    if dataset.labels is not None:
        tensors["labels"] = dataset.labels
    index = json.dumps(dataset.index)
    metadata = {"fingerprint": dataset.fingerprint, "index": index, "crc32": _checksum(tensors, index)}
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata)


def _read_cache(path, split, fingerprint):
    """The dataset in ``path``. ValueError, TypeError, KeyError, OSError or SafetensorError if the file is damaged."""
    with safe_open(Path(path), framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata["fingerprint"] != fingerprint or metadata["crc32"] != _checksum(tensors, metadata["index"]):
        raise ValueError("its content is not what was written")
    return EncodedDataset(tensors["input_ids"], tensors["token_type_ids"], tensors["lengths"], tensors.get("labels"),
                          json.loads(metadata["index"]), split, fingerprint)
