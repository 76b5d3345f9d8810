"""The teacher's features over a dataset, from which the teacher memory is built."""

import math
import time

import torch
from torch.nn import functional as F

from fsd.method.losses import zero_padding
from fsd.models.forward import model_inputs
from fsd.system.processes import share, world_size


class TeacherFeatures:
    """The flattened hidden states [b, S·d] of an encoder's layer over a dataset, batch by batch in the dataset's order.

    With several processes, each has a share of the batches; ``examples`` is the range of its examples.

    Args:
        encoder: a model without its head.
        dataset: :class:`fsd.glue.dataset.EncodedDataset`, on the encoder's device.
        batch_size: examples per batch and process.
        mask_padding: run each batch at the length of its longest example, and set padding to zero.
        tracker: gets examples per second every ``logging_steps`` batches.
        layer: the index into the encoder's hidden states.
    """

    def __init__(self, encoder, dataset, batch_size, mask_padding, tracker, logging_steps, layer=-1):
        self.encoder, self.dataset, self.batch_size, self.mask_padding = encoder, dataset, batch_size, mask_padding
        self.tracker, self.logging_steps, self.layer, self.steps = tracker, logging_steps, layer, 0
        own = share(math.ceil(len(dataset) / batch_size))
        self.examples = range(len(dataset))[own.start * batch_size : own.stop * batch_size]

    @torch.no_grad()
    def batches(self):
        """Yield (index of the first example, features [b, S·d])."""
        since = time.perf_counter()
        for start in self.examples[:: self.batch_size]:
            yield start, self._features(torch.arange(start, min(start + self.batch_size, self.examples.stop)))
            self.steps += 1
            if self.steps % self.logging_steps == 0:
                now = time.perf_counter()
                rate = self.logging_steps * self.batch_size * world_size() / (now - since)
                self.tracker.scalars("memory", {"examples_per_second": rate}, self.steps)
                since = now

    def _features(self, indices):
        batch = self.dataset.batch(indices, cut_to_longest=self.mask_padding)
        inputs = model_inputs(self.encoder.config, batch)
        hidden = self.encoder(**inputs, output_hidden_states=True).hidden_states[self.layer]
        if self.mask_padding:
            hidden = zero_padding(hidden, batch["attention_mask"])
            hidden = F.pad(hidden, (0, 0, 0, self.dataset.input_ids.shape[1] - hidden.shape[1]))
        return hidden.flatten(1)
