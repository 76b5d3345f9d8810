"""The models, data and settings of one training run."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from fsd.glue.dataset import EncodedDataset
from fsd.glue.tasks import Task
from fsd.memory.student_memory import StudentMemory
from fsd.method.global_structure import MemoryProducts
from fsd.method.objective import Objective
from fsd.system.processes import world_size
from fsd.system.random_streams import stream_seed
from fsd.training.teacher_cache import TeacherCache

GROUPED_BATCHES = 50  # batches that --group_by_length sorts together: fewer stay more random, more save more padding
LENGTH_BUCKETS = (0.125, 0.25, 0.5, 0.75, 1)  # shares of the full length; --compile compiles and --cuda_graphs records each


@dataclass(frozen=True)
class TrainingSettings:
    """The flags that set how a run trains, logs and saves, under their own names."""

    seed: int = 42
    max_seq_length: int = 128
    per_gpu_train_batch_size: int = 8
    per_gpu_eval_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    learning_rate: float = 5e-5
    memory_learning_rate: float | None = None  # of the student memory; None is learning_rate
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    num_train_epochs: float = 3.0
    max_steps: int = -1
    warmup_steps: int = 0
    mask_padding: bool = False
    group_by_length: bool = False
    bf16: bool = False
    fp16: bool = False
    compile: bool = False
    cuda_graphs: bool = False
    logging_steps: int = 50
    log_relations: bool = False
    save_steps: int = 500
    save_total_limit: int = 1
    evaluate_during_training: bool = False

    @property
    def precision(self):
        """The autocast dtype of the models: bfloat16, float16, or None for float32."""
        return torch.bfloat16 if self.bf16 else torch.float16 if self.fp16 else None

    @property
    def length_buckets(self):
        """The lengths that batches are padded to with ``compile`` or ``cuda_graphs``; an empty list without them."""
        few_shapes = self.compile or self.cuda_graphs
        return [math.ceil(self.max_seq_length * share) for share in LENGTH_BUCKETS] if few_shapes else []


@dataclass(frozen=True)
class Run:
    """Everything that one training run works on; models and data are on ``device``."""

    task: Task
    objective: Objective
    settings: TrainingSettings
    output_dir: Path
    device: torch.device
    tokenizer: PreTrainedTokenizerBase
    student: nn.Module
    train_set: EncodedDataset
    dev_sets: list[EncodedDataset]
    teacher: nn.Module | None = None
    student_memory: StudentMemory | None = None
    teacher_memory: MemoryProducts | None = None
    teacher_cache: TeacherCache | None = None
    clusters: Tensor | None = None  # [N], of each training example: the student memory starts from their means, not at random

    @property
    def batch_size(self):
        """Examples in a batch, over all processes."""
        return self.settings.per_gpu_train_batch_size * world_size()

    @cached_property
    def steps_per_epoch(self):
        """Updates of one pass over the training set."""
        batches = math.ceil(len(self.train_set) / self.batch_size)
        return math.ceil(batches / self.settings.gradient_accumulation_steps)

    @property
    def steps(self):
        """Updates of the whole run."""
        settings = self.settings
        if settings.max_steps > 0:
            return settings.max_steps
        return math.ceil(round(settings.num_train_epochs * self.steps_per_epoch, 6))  # 1.1 · 50 is a little over 55

    def update_batches(self, epoch):
        """The batches of each update of an epoch; see :func:`update_batches`."""
        settings = self.settings
        return update_batches(self.train_set.lengths, epoch, settings.seed, self.batch_size,
                              settings.gradient_accumulation_steps, settings.group_by_length)


def update_batches(lengths: Tensor, epoch, seed, batch_size, accumulation=1, group_by_length=False):
    """For each update of an epoch, the list of its batches, as tensors of example indices; shuffled by the seed.

    Args:
        lengths: tokens of each training example [N].
        batch_size: examples in a batch, over all processes. One batch may be smaller: the last of the epoch, or with
            ``group_by_length`` any of them.
        accumulation: batches per update. The last update takes the batches that are left.
        group_by_length: put examples of similar length into one batch.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, f"order {epoch}"))
    order = torch.randperm(len(lengths), generator=generator)
    if group_by_length:
        chunks = order.split(GROUPED_BATCHES * batch_size)
        order = torch.cat([chunk[lengths[chunk].argsort(stable=True)] for chunk in chunks])
    batches = order.split(batch_size)
    if group_by_length:
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return [batches[start : start + accumulation] for start in range(0, len(batches), accumulation)]
