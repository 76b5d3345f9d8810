"""Packing: the examples of a batch laid end to end into rows, so that a batch costs its tokens and not its longest example."""

from typing import NamedTuple

import torch


class Packing(NamedTuple):
    """Where the T tokens of B examples lie in R rows of W positions.

    Attributes:
        shape: (R, W).
        packed: [T], each token's place in the flattened rows [R·W].
        whole: [T], its place in the flattened batch [B·S].
        firsts: [B], the place of each example's first token in the flattened rows.
    """

    shape: tuple
    packed: torch.Tensor
    whole: torch.Tensor
    firsts: torch.Tensor

    def to(self, move):
        """The same with each tensor passed through ``move``."""
        return Packing(self.shape, move(self.packed), move(self.whole), move(self.firsts))


def pack(lengths, size):
    """The :class:`Packing` of examples, or None if it would save no row.

    Args:
        lengths: tokens of each example [B], on the CPU, each at least 1.
        size: the positions S that the batch has for each example.

    The rows are as wide as the longest example. Each example goes, the longest first, into the first row that has room.
    Wider rows would need fewer of them, but cost more attention than they save.
    """
    width, counts = int(lengths.max()), lengths.tolist()
    starts, used = [0] * len(counts), []  # place of each example, positions taken in each row
    for example in sorted(range(len(counts)), key=lambda example: -counts[example]):
        row = next((row for row, taken in enumerate(used) if taken + counts[example] <= width), len(used))
        if row == len(used):
            used.append(0)
        starts[example] = row * width + used[row]
        used[row] += counts[example]
    if len(used) == len(counts):
        return None
    firsts = torch.tensor(starts)
    examples = torch.repeat_interleave(torch.arange(len(counts)), lengths)
    within = torch.arange(len(examples)) - (lengths.cumsum(0) - lengths)[examples]
    return Packing((len(used), width), firsts[examples] + within, examples * size + within, firsts)


def packed_inputs(batch, packing, padding_id=None):
    """A model's inputs for the packed rows of an encoded batch: each token sees the tokens of its own example only.

    Positions count from 0. With ``padding_id`` they count as RoBERTa's: from the id after it, and padding tokens do not count.
    """
    rows, width = packing.shape
    size = batch["input_ids"].shape[1]
    positions = packing.whole % size
    if padding_id is not None:
        real = (batch["input_ids"] != padding_id).long()
        positions = (real.cumsum(dim=1) * real + padding_id).flatten()[packing.whole]

    def laid_out(values, fill=0):
        return values.new_full((rows * width,), fill).index_copy(0, packing.packed, values).view(rows, width)

    # The unused end of a row is an example of its own, so that its attention has something to see.
    examples = laid_out(packing.whole // size, fill=-1)
    return {
        "input_ids": laid_out(batch["input_ids"].flatten()[packing.whole]),
        "token_type_ids": laid_out(batch["token_type_ids"].flatten()[packing.whole]),
        "position_ids": laid_out(positions),
        "attention_mask": (examples[:, None, :, None] == examples[:, None, None, :]),
    }


def unpacked(hidden, packing, batch_shape):
    """Hidden states [R, W, d] of packed rows as [B, S, d]; padding is zero."""
    flat, (examples, size) = hidden.flatten(0, 1), batch_shape
    whole = flat.new_zeros(examples * size, flat.shape[1]).index_copy(0, packing.whole, flat[packing.packed])
    return whole.view(examples, size, -1)
