"""Encoded examples, and the batches that are cut from them."""

from dataclasses import dataclass, replace

import torch

from fsd.system.hashes import json_hash, tensor_hash
from fsd.system.random_streams import stream_seed


@dataclass(frozen=True)
class EncodedDataset:
    """N examples of S positions, right-padded.

    input_ids int32 [N, S] and token_type_ids uint8 [N, S]; lengths int64 [N], the tokens before the padding, stays
    on the CPU wherever the rest is; labels [N] int64 class ids or float32 scores, or None; index: the test file's
    numbering, or None; fingerprint: hash of all this was made from; data_hash: of the rows alone, whatever tokenizer and
    length; device: where batches come out; rows int64 [N]: of a subset, which examples of the whole it has.
    """

    input_ids: torch.Tensor
    token_type_ids: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor | None
    index: list | None
    split: str
    fingerprint: str
    data_hash: str = ""
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
        chosen = tensor_hash({"rows": indices})
        return replace(
            self, input_ids=self.input_ids[at], token_type_ids=self.token_type_ids[at], lengths=self.lengths[indices],
            labels=None if self.labels is None else self.labels[at],
            index=None if self.index is None else [self.index[i] for i in indices.tolist()],
            fingerprint=json_hash([self.fingerprint, chosen]), data_hash=json_hash([self.data_hash, chosen]),
            rows=indices if self.rows is None else self.rows[indices])

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


def train_subset(dataset, max_train_samples, seed):
    """A random ``max_train_samples`` of the examples in their old order; all of them if there are no more than that."""
    if max_train_samples >= len(dataset):
        return dataset
    generator = torch.Generator().manual_seed(stream_seed(seed, "subset"))
    chosen = torch.randperm(len(dataset), generator=generator)[:max_train_samples]
    return dataset.subset(chosen.sort().values)
