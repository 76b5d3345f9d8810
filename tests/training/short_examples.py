"""Examples of a few tokens, for tests that need no text."""

import torch

from fsd.glue.dataset import EncodedDataset


def short_examples():
    """37 examples of 3 to 12 tokens in 12 positions."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 13, (37,), generator=generator)
    ids = torch.randint(5, 100, (37, 12), generator=generator, dtype=torch.int32)
    ids[torch.arange(12) >= lengths[:, None]] = 0
    return EncodedDataset(ids, torch.zeros_like(ids, dtype=torch.uint8), lengths, None, None, "train", "fingerprint")
