"""GLUE splits as token ids: encoded once, cached beside the task's files, cut into batches.

A cache is found by a hash of everything it was made from, so one made from other files, another tokenizer or
another length is never read.
"""

import hashlib
import json
import logging
import zlib
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from fsd.distributed import main_process_first
from fsd.files import InputError, file_hash, is_main_process, written_whole
from fsd.glue import find_split, find_task_folder, read_split
from fsd.seeds import stream_seed

logger = logging.getLogger(__name__)

CACHE_FORMAT = 1
CHUNK = 4096  # examples handed to the tokenizer at once: enough for all cores, little enough for a moving bar


@dataclass(frozen=True)
class EncodedDataset:
    """N examples of S positions, right-padded.

    input_ids int32 [N, S] and token_type_ids uint8 [N, S]; lengths int64 [N], the tokens before the padding, stays
    on the CPU wherever the rest is; labels [N] int64 class ids or float32 scores, or None; index: the test file's
    numbering, or None; fingerprint: hash of all this was made from; device: where batches come out; rows int64 [N]: of a
    subset, which examples of the whole it has.
    """

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor | None
    index: list | None
    split: str
    fingerprint: str
    device: torch.device = torch.device("cpu")
    rows: torch.Tensor | None = None

    def __len__(self):
        return len(self.lengths)

    def to(self, device):
        """The same examples with batches on ``device``, kept there too unless they took over half of a GPU's free memory."""
        device = torch.empty(0, device=device).device  # "cuda" alone equals no tensor's device
        size = self.input_ids.nbytes + self.token_type_ids.nbytes
        fits = device.type != "cuda" or size <= torch.cuda.mem_get_info(device)[0] / 2
        kept = device if fits else torch.device("cpu")
        labels = None if self.labels is None else self.labels.to(kept)
        return replace(self, input_ids=self.input_ids.to(kept), token_type_ids=self.token_type_ids.to(kept), labels=labels,
                       device=device)

    def subset(self, indices):
        """The examples at ``indices`` (CPU int64 tensor [n]), in that order, under a fingerprint of their own."""
        at = indices.to(self.input_ids.device)
        chosen = hashlib.sha256(indices.numpy().tobytes()).hexdigest()
        return replace(
            self, input_ids=self.input_ids[at], token_type_ids=self.token_type_ids[at], lengths=self.lengths[indices],
            labels=None if self.labels is None else self.labels[at],
            index=None if self.index is None else [self.index[i] for i in indices.tolist()],
            fingerprint=_hash(self.fingerprint, chosen), rows=indices if self.rows is None else self.rows[indices])

    def batch(self, indices, cut_to_longest=False, buckets=()):
        """A model's inputs for the examples at ``indices`` (CPU int64 tensor [b]), on ``device``.

        input_ids, attention_mask, token_type_ids: int64 [b, S], or with ``cut_to_longest`` [b, longest of these, or the
        next of the lengths ``buckets``]; labels [b] where the split has them. Nothing is read back from the device.
        """
        lengths, size = self.lengths[indices], self.input_ids.shape[1]
        if cut_to_longest:
            longest = int(lengths.max())
            size = min((bucket for bucket in buckets if bucket >= longest), default=longest)
        at = self.on_device(indices) if self.input_ids.device == self.device else indices
        positions = torch.arange(size, device=self.device)
        batch = {
            "input_ids": self.on_device(self.input_ids[at, :size]).long(),
            "attention_mask": (positions < self.on_device(lengths)[:, None]).long(),
            "token_type_ids": self.on_device(self.token_type_ids[at, :size]).long(),
        }
        if self.labels is not None:
            batch["labels"] = self.on_device(self.labels[at])
        return batch

    def on_device(self, tensor):
        """A tensor on ``device``, without waiting for a copy from the CPU."""
        if tensor.device == self.device:
            return tensor
        # Only a copy from pinned memory leaves the host free to go on.
        pinned = tensor.pin_memory() if self.device.type == "cuda" else tensor
        return pinned.to(self.device, non_blocking=True)


def encode_split(task, data_dir, split, tokenizer, max_seq_length, overwrite_cache=False):
    """The :class:`EncodedDataset` of one split, from its cache or encoded now and cached.

    Pairs are cut longest first to ``max_seq_length`` tokens. The cache is a file in ``cached_encodings/`` of the
    task's folder; a damaged one is made again and an unwritable folder goes without, each with one warning.
    Of several processes the main one encodes, and the others read its cache. InputError as
    :func:`fsd.glue.read_split`, and for a tokenizer or a length that cannot do it.
    """
    _check_tokenizer(task, tokenizer, max_seq_length)
    entries = max(tokenizer.get_vocab().values()) + 1
    path = find_split(task, data_dir, split)
    fingerprint = _hash(CACHE_FORMAT, task.name, split, file_hash(path), tokenizer_hash(tokenizer),
                        tokenizer.pad_token_id, max_seq_length)
    folder = find_task_folder(task, data_dir) / "cached_encodings"
    cache = folder / f"{split}-{max_seq_length}-{fingerprint[:16]}.safetensors"
    with main_process_first():
        if cache.is_file() and not (overwrite_cache and is_main_process()):
            try:
                return _read_cache(cache, task, split, fingerprint, entries)
            except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
                logger.warning("%s is damaged (%s); encoding anew", cache, error)
        dataset = _encode(read_split(task, data_dir, split), tokenizer, max_seq_length, fingerprint)
        if problem := _problem(dataset, task, entries):
            raise InputError(f"{path}: encoded by this tokenizer {problem}; name a BERT's with --tokenizer_name")
        try:
            _write_cache(cache, dataset)
        except (InputError, SafetensorError) as error:
            logger.warning("going on without a cache of the encoding: %s", error)
        return dataset


def train_subset(dataset, max_train_samples, seed):
    """A random ``max_train_samples`` of the examples in their old order; all of them if there are no more than that."""
    if max_train_samples >= len(dataset):
        return dataset
    generator = torch.Generator().manual_seed(stream_seed(seed, "subset"))
    chosen = torch.randperm(len(dataset), generator=generator)[:max_train_samples]
    return dataset.subset(chosen.sort().values)


def tokenizer_hash(tokenizer):
    """SHA-256 (hex) over what a fast tokenizer is: vocabulary, normalisation, templates; not how it was last used."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content.pop("truncation")
    content.pop("padding")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _check_tokenizer(task, tokenizer, max_seq_length):
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InputError("the tokenizer is a slow one; give --tokenizer_name a folder with tokenizer.json or vocab.txt")
    if tokenizer.pad_token_id is None:
        raise InputError("the tokenizer has no padding token; give --tokenizer_name a BERT tokenizer")
    special = tokenizer.num_special_tokens_to_add(pair=task.pair)
    if max_seq_length < special + len(task.text_columns):
        raise InputError(f"--max_seq_length {max_seq_length} leaves no room for text beside {special} special tokens")


def _encode(split, tokenizer, max_seq_length, fingerprint):
    """Token ids of a :class:`fsd.glue.Split`."""
    from tokenizers import Tokenizer

    # A copy: the caller's tokenizer keeps its truncation and padding.
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.enable_truncation(max_seq_length, strategy="longest_first", direction="right")
    examples = split.texts_a if split.texts_b is None else list(zip(split.texts_a, split.texts_b, strict=True))
    input_ids = np.full((len(examples), max_seq_length), tokenizer.pad_token_id, dtype=np.int32)
    type_ids = np.zeros((len(examples), max_seq_length), dtype=np.uint8)
    lengths = np.empty(len(examples), dtype=np.int64)
    positions = np.arange(max_seq_length)
    with tqdm(total=len(examples), desc=f"encoding {split.task.name} {split.name}", unit="ex", delay=1,
              disable=not is_main_process()) as bar:
        for start in range(0, len(examples), CHUNK):
            try:
                encodings = backend.encode_batch_fast(examples[start:start + CHUNK])
            except Exception as error:  # the tokenizers library raises no narrower one
                raise InputError(f"{split.path}: the tokenizer cannot encode it ({error}); name a BERT's with "
                                 "--tokenizer_name") from error  # fmt: skip
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


def _problem(dataset, task, entries):
    """What would break a model of a vocabulary of ``entries``, or None; tensors on the CPU."""
    ids, types, lengths, labels, index = (
        dataset.input_ids, dataset.token_type_ids, dataset.lengths, dataset.labels, dataset.index
    )
    count = len(lengths)
    if lengths.dtype != torch.int64 or lengths.dim() != 1 or not count:
        return "has no lengths"
    if ids.dtype != torch.int32 or ids.dim() != 2 or len(ids) != count:
        return "has another number of token ids"
    if types.dtype != torch.uint8 or types.shape != ids.shape:
        return "has another number of token types"
    if lengths.min() < 1 or lengths.max() > ids.shape[1]:
        return f"has an example of {int(lengths.min())} tokens"
    if ids.min() < 0 or ids.max() >= entries:
        return f"has the token id {int(ids.max())}, beyond the vocabulary's {entries} entries"
    if types.max() > 1:
        return f"has the token type {int(types.max())}, where BERT has 0 and 1"
    if dataset.split in task.test_splits:
        is_index = isinstance(index, list) and len(index) == count and all(isinstance(number, str) for number in index)
        return None if labels is None and is_index else "has no index of each example"
    if labels is None or labels.shape != lengths.shape or index is not None:
        return "has no label of each example"
    wanted, largest = (torch.float32, 5) if task.regression else (torch.int64, len(task.labels) - 1)
    if labels.dtype != wanted or not (0 <= labels.min() and labels.max() <= largest):
        return f"has labels that are none of {task.name}"
    return None


def _flat(lists):
    return np.fromiter(chain.from_iterable(lists), dtype=np.int32)


def _checksum(tensors):
    """CRC-32 over the tensors' bytes: safetensors itself would not notice a flipped one."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].numpy(), crc)
    return str(crc)


def _write_cache(path, dataset):
    tensors = {"input_ids": dataset.input_ids, "token_type_ids": dataset.token_type_ids, "lengths": dataset.lengths}
    if dataset.labels is not None:
        tensors["labels"] = dataset.labels
    metadata = {"fingerprint": dataset.fingerprint, "index": json.dumps(dataset.index), "crc32": _checksum(tensors)}
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata)


def _read_cache(path, task, split, fingerprint, entries):
    """The dataset in ``path``. ValueError, TypeError, KeyError, OSError or SafetensorError if the file is not whole."""
    with safe_open(Path(path), framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata["fingerprint"] != fingerprint or metadata["crc32"] != _checksum(tensors):
        raise ValueError("its content is not what was written")
    dataset = EncodedDataset(tensors["input_ids"], tensors["token_type_ids"], tensors["lengths"], tensors.get("labels"),
                             json.loads(metadata["index"]), split, fingerprint)
    if problem := _problem(dataset, task, entries):
        raise ValueError(f"it {problem}")
    return dataset
