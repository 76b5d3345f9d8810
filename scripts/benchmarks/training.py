"""What takes turns: our training loop with a method and options, the minimal loop, and the student's evaluation."""

import contextlib
import copy
import io
import statistics
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F
from transformers import BertConfig

from fsd.cli.arguments import all_parser
from fsd.cli.experiment import training_settings
from fsd.glue.dataset import EncodedDataset
from fsd.glue.tasks import find_task
from fsd.memory.student_memory import StudentMemory
from fsd.method.global_structure import memory_products
from fsd.method.objective import Objective, layer_pairs
from fsd.models.loading import freeze
from fsd.models.student import new_bert
from fsd.records.tracking import Tracker
from fsd.training.evaluation import predict_logits
from fsd.training.loop import train
from fsd.training.run import Run
from fsd.training.teacher_cache import TeacherCache

from benchmarks.timing import Contender

# Quantiles of the official training files' lengths in WordPiece tokens, cut to 128.
QUANTILES = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1)
LENGTHS = {
    "CoLA": (4, 5, 6, 7, 8, 9, 10, 10, 11, 12, 14, 17, 20, 25, 32, 47),
    "RTE": (13, 21, 29, 33, 40, 45, 50, 56, 62, 72, 103, 128, 128, 128, 128, 128),
}
# Method → the weights of its objective, beside DEFAULTS.
METHODS = {
    "fine-tuning": {"alpha": 1.0}, "KD": {}, "PKD": {"pkd": 1.0}, "MiniLM": {"minilm": 1.0},
    "RKD": {"rkd_distance": 1.0, "rkd_angle": 1.0}, "FSD_I": {"gamma_i": 1.0}, "FSD_L": {"gamma_l": 1.0},
    "FSD_G": {"gamma_g": 1.0}, "FSD_IL": {"gamma_i": 1.0, "gamma_l": 1.0},
    "FSD_ILG": {"gamma_i": 1.0, "gamma_l": 1.0, "gamma_g": 1.0},
}
DEFAULTS = {"alpha": 0.5, "temperature": 5.0, "beta": 1.0, "gamma_m": 1e-4}


@dataclass(frozen=True)
class Size:
    """The sizes of one measurement."""

    name: str
    hidden_size: int
    teacher_layers: int
    batch_size: int
    length: int = 128
    centroids: int = 100

    def describe(self):
        """The heading of this size's tables."""
        return (f"{self.name}: width {self.hidden_size}, {self.teacher_layers}→{self.teacher_layers // 2} layers, "
                f"B {self.batch_size}, S {self.length}, K {self.centroids}")


def bare_kd(teacher, student, data, batch_size, steps):
    """The minimal distillation loop that every ratio divides by."""
    input_ids, labels = data.input_ids.long(), data.labels
    token_type_ids = data.token_type_ids.long()
    attention_mask = (torch.arange(input_ids.shape[1]) < data.lengths[:, None]).long().to(input_ids.device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-5, fused=True)
    student.train()
    for rows in torch.randperm(len(labels)).to(input_ids.device).split(batch_size)[:steps]:
        batch = {
            "input_ids": input_ids[rows], "attention_mask": attention_mask[rows], "token_type_ids": token_type_ids[rows],
        }
        with torch.no_grad():
            teacher_logits = teacher(**batch).logits
        student_logits = student(**batch).logits
        dark_knowledge = F.kl_div(
            F.log_softmax(student_logits / 5, dim=-1), F.log_softmax(teacher_logits / 5, dim=-1),
            reduction="batchmean", log_target=True,
        )
        loss = 0.5 * F.cross_entropy(student_logits, labels[rows]) + 0.5 * 25 * dark_knowledge
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


class Bench:
    """Teacher, student and data of one size, and our training loop over them."""

    def __init__(self, size, device, steps, folder):
        self.size, self.device, self.steps, self.folder = size, device, steps, folder
        config = BertConfig(
            hidden_size=size.hidden_size, num_hidden_layers=size.teacher_layers, num_attention_heads=size.hidden_size // 64,
            intermediate_size=4 * size.hidden_size, num_labels=2, max_position_embeddings=max(512, size.length),
        )
        self.teacher = freeze(new_bert(config, 0)).to(device)
        config.num_hidden_layers //= 2
        self.student = new_bert(config, 1).to(device)
        self.examples = max(steps, 50) * size.batch_size
        self.data = {task: self.dataset(quantiles).to(device) for task, quantiles in LENGTHS.items()}

    def dataset(self, quantiles):
        """Random tokens with the length distribution of a task."""

        generator = torch.Generator().manual_seed(0)
        places = (np.arange(self.examples) + 0.5) / self.examples
        lengths = torch.from_numpy(np.interp(places, QUANTILES, quantiles).round()).long().clamp(max=self.size.length)
        lengths = lengths[torch.randperm(self.examples, generator=generator)]
        input_ids = torch.randint(1000, 30000, (self.examples, self.size.length), generator=generator, dtype=torch.int32)
        input_ids[torch.arange(self.size.length) >= lengths[:, None]] = 0
        labels = torch.randint(2, (self.examples,), generator=generator)
        return EncodedDataset(input_ids, torch.zeros_like(input_ids, dtype=torch.uint8), lengths, labels, None, "train", "")

    def bare(self):
        """The minimal loop as a contender."""
        batches = [(self.size.batch_size, self.size.length)]
        return Contender(
            "bare KD loop", "", lambda steps: bare_kd(self.teacher, self.student, self.data["CoLA"], self.size.batch_size, steps),
            self.flops(batches, cached=False),
        )

    def run(self, method, data, *flags):
        """The :class:`Run` of a method of ``METHODS`` with command-line flags, on data."""
        size = self.size
        args = all_parser("").parse_args([
            "--task_name", "CoLA", "--data_dir", ".", "--output_dir", str(self.folder), "--per_gpu_train_batch_size",
            str(size.batch_size), "--max_seq_length", str(size.length), "--save_steps", str(10**9), *flags,
        ])
        settings = training_settings(args)
        depths = size.teacher_layers, size.teacher_layers // 2
        pairs = tuple(layer_pairs(*depths, layerwise=method == "PKD"))
        forms = {name: getattr(args, name) for name in ("debiased", "similarity", "normalize_distances")}
        objective = Objective(**DEFAULTS | METHODS[method] | forms, pairs=pairs, default_pair=layer_pairs(*depths)[0])
        student_memory = teacher_memory = cache = None
        if objective.needs_memory:
            memories = [StudentMemory(size.centroids, size.length, size.hidden_size, seed).to(self.device) for seed in (0, 1)]
            student_memory, teacher_memory = memories[0], memory_products(memories[1].centroids.detach())
        if args.cache_teacher:
            layers = [teacher for teacher, _ in objective.compared_pairs]
            cache = TeacherCache("ram", self.teacher, "", data, layers, args.mask_padding, settings.precision)
            with contextlib.redirect_stderr(io.StringIO()):
                cache.fill()
        clusters = torch.arange(len(data)) % size.centroids  # read by --student_memory_init centroids alone
        return Run(find_task("CoLA"), objective, settings, self.folder, self.device, None, self.student, data, [], self.teacher,
                   student_memory, teacher_memory, cache, clusters)

    def ours(self, method, *flags, lengths="CoLA"):
        """Our training loop as a contender, with a method of ``METHODS`` and command-line flags."""
        run = self.run(method, self.data[lengths], *flags)
        tracker = Tracker(self.folder, "benchmark")
        seed = min(range(100), key=lambda seed: self.bias(with_settings(run, seed=seed)))
        batches = [(len(batch), self.cut(run, batch)) for update in with_settings(run, seed=seed).update_batches(0)
                   for batch in update]

        def steps(count):
            with contextlib.redirect_stderr(io.StringIO()):  # hides the log
                train(with_settings(run, seed=seed, max_steps=count), tracker)

        precision = "bfloat16" if run.settings.bf16 else "float16" if run.settings.fp16 else "float32"
        flops = self.flops(batches, cached=run.teacher_cache is not None or not run.objective.needs_teacher)
        return Contender(method, options_text(flags, lengths), steps, flops, precision)

    def inference(self, method):
        """The evaluation of a method's student as a contender. Its steps are batches; all students are the same network."""
        student, data = copy.deepcopy(self.student), self.data["RTE"]

        def steps(count):
            with contextlib.redirect_stderr(io.StringIO()):  # hides the progress bar
                predict_logits(student, data.subset(torch.arange(count * self.size.batch_size)), self.size.batch_size)

        return Contender(method, "", steps)

    def bias(self, run):
        """The difference in mean length between the batches of a block and all batches."""
        longest = [run.train_set.lengths[batch].max().item() for update in run.update_batches(0) for batch in update]
        return abs(statistics.fmean(longest[: self.steps]) - statistics.fmean(longest))

    def cut(self, run, indices):
        """The length of a batch after cutting."""
        batch = run.train_set.batch(indices, run.settings.mask_padding, run.settings.length_buckets)
        return batch["input_ids"].shape[1]

    def flops(self, batches, cached):
        """Floating-point operations of the models' matrix products in an average step over [(examples, length)].

        A layer's forward takes 24 d² + 4 S d per token, its backward twice that. Softmax, LayerNorm, losses and the
        optimizer are not counted.
        """
        d, depth = self.size.hidden_size, self.size.teacher_layers
        passes = (0 if cached else depth) + 3 * (depth // 2)
        return statistics.fmean(examples * length * (24 * d * d + 4 * length * d) * passes for examples, length in batches)


def options_text(flags, lengths):
    """The options of a row of the tables."""
    about = f" ({lengths}'s lengths)" if "--mask_padding" in flags else ""
    return " ".join(flag for flag in flags if flag != "ram") + about


def with_settings(run, **changes):
    """The run with other settings."""
    return replace(run, settings=replace(run.settings, **changes))
