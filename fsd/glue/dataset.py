"""Encoded examples and their batches."""

from dataclasses import dataclass, replace

import torch

from fsd.glue.origin import DataOrigin
from fsd.system.hashes import json_hash, tensor_hash
from fsd.system.random_streams import stream_seed


@dataclass(frozen=True)
class EncodedDataset:
    """N examples of S positions, right-padded.

    input_ids: int32 [N, S]. token_type_ids: uint8 [N, S]. lengths: int64 [N], tokens before the padding; always on the
    CPU. labels: [N] int64 class ids or float32 scores, or None. index: the row numbers in the test file, or None.
    fingerprint: hash of the rows, the tokenizer and the length. origin: which rows these are. device: the device of
    the batches. rows: int64 [N], the indices of a subset's examples in the whole dataset, or None.
    """

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor | None
    index: list | None
    split: str
    fingerprint: str
    origin: DataOrigin = DataOrigin()
    device: torch.device = torch.device("cpu")
    rows: torch.Tensor | None = None

    def __len__(self):
        return len(self.lengths)

    def to(self, device):
        """The same examples with batches on ``device``. Stored there too, unless they need over half of a GPU's free RAM."""
        device = torch.empty(0, device=device).device  # "cuda" has no index, so it never equals a tensor's device
        size = self.input_ids.nbytes + self.token_type_ids.nbytes
        fits = device.type != "cuda" or size <= torch.cuda.mem_get_info(device)[0] / 2
        kept = device if fits else torch.device("cpu")
        labels = None if self.labels is None else self.labels.to(kept)
        return replace(self, input_ids=self.input_ids.to(kept), token_type_ids=self.token_type_ids.to(kept), labels=labels,
                       device=device)

    def subset(self, indices):
        """The examples at ``indices`` (CPU int64 tensor [n]), in that order, with a new fingerprint."""
        at = indices.to(self.input_ids.device)
        chosen = tensor_hash({"rows": indices})
        return replace(
            self, input_ids=self.input_ids[at], token_type_ids=self.token_type_ids[at], lengths=self.lengths[indices],
            labels=None if self.labels is None else self.labels[at],
            index=None if self.index is None else [self.index[i] for i in indices.tolist()],
            fingerprint=json_hash([self.fingerprint, chosen]), 
            origin=replace(self.origin, rows=json_hash([self.origin.rows, chosen])),
            rows=indices if self.rows is None else self.rows[indices])

    def batch(self, indices, cut_to_longest=False, buckets=()):
        """The model's inputs for the examples at ``indices`` (CPU int64 tensor [b]), on ``device``.

        input_ids, attention_mask, token_type_ids: int64 [b, S]; labels: [b], if the split has labels. With
        ``cut_to_longest``, S is the longest of these examples, rounded up to the next length in ``buckets``. Does not
        wait for the device.
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
        """The tensor on ``device``; does not wait for the copy."""
        if tensor.device == self.device:
            return tensor
        # Only a copy from pinned RAM runs in the background.
        pinned = tensor.pin_memory() if self.device.type == "cuda" else tensor
        return pinned.to(self.device, non_blocking=True)


def train_subset(dataset, max_train_samples, seed):
    """``max_train_samples`` random examples in their old order; all examples if there are no more."""
    if max_train_samples >= len(dataset):
        return dataset
    generator = torch.Generator().manual_seed(stream_seed(seed, "subset"))
    chosen = torch.randperm(len(dataset), generator=generator)[:max_train_samples]
    return dataset.subset(chosen.sort().values)
