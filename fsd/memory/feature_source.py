"""The features to cluster, pass by pass: computed by the caller in each pass, or cached in the first."""

import logging
import time

import torch

from fsd.system.logs import progress_bar
from fsd.system.processes import world_size

logger = logging.getLogger(__name__)

ESTIMATE_AFTER = 20  # seconds into the first pass after which the total time is estimated


class FeatureSource:
    """The batches of a pass as float32 on the device: from the cache if there is one, else from the caller."""

    def __init__(self, feature_batches, plan, device, examples=None):
        self.feature_batches, self.plan, self.device = feature_batches, plan, device
        self.examples = range(plan.num_examples) if examples is None else examples
        self.cache, self.bounds = None, []
        self.first_batch, self.has_told_time = None, False

    def batches(self, number):
        """Yield (index of the first example, features [b, P]) for pass ``number``, under a progress bar."""
        name = f"memory, pass {number}/{self.plan.passes}"
        with progress_bar(total=len(self.examples), desc=name, unit="example") as bar:
            for start, features in self._computed() if self.cache is None else self._kept():
                yield start, features
                bar.update(len(features))
                if number == 1:
                    self._tell_time(start + len(features))

    def _tell_time(self, done):
        """Log once, some time into the first pass, how long the clustering will take."""
        now = time.perf_counter()
        if self.first_batch is None:
            self.first_batch = done, now  # includes the warm-up, so it is not timed
        elif not self.has_told_time and now - self.first_batch[1] > ESTIMATE_AFTER:
            self.has_told_time = True
            rate = world_size() * (done - self.first_batch[0]) / (now - self.first_batch[1])
            logger.info("%s", self.plan.describe_time(rate))

    def _kept(self):
        first = self.examples.start
        for start, end in self.bounds:
            yield start, self.cache[start - first : end - first]

    def _computed(self):
        first, stop, width = self.examples.start, self.examples.stop, self.plan.num_features
        cache = torch.empty(len(self.examples), width, device=self.device) if self.plan.is_cached else None
        end = first
        for start, features in self.feature_batches():
            features = features.detach().to(self.device, torch.float32)
            if start != end or features.shape != (len(features), width) or start + len(features) > stop:
                raise ValueError(f"features {tuple(features.shape)} at {start}, not [b, {width}] at {end} of {stop}")
            end += len(features)
            if cache is not None:
                cache[start - first : end - first] = features
                self.bounds.append((start, end))
            yield start, features
        if end != stop:
            raise ValueError(f"features of {end - first} examples, not {len(self.examples)}")
        self.cache = cache
