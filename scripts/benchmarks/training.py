"""What takes turns: our training loop with a method and options, the minimal loop, and the student's evaluation."""

import contextlib
import copy
import io
import statistics
import time
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
from fsd.models.student import new_model
from fsd.records.tracking import Tracker
from fsd.system.devices import autocast
from fsd.training.batch import batch_inputs
from fsd.training.evaluation import evaluate, predict_logits
from fsd.training.loop import train
from fsd.training.run import Run
from fsd.training.teacher_cache import TeacherCache

from benchmarks.timing import BLOCK_STEPS, Contender, seconds_of, synchronize

# Quantiles of the official training files' lengths in WordPiece tokens, cut to 128.
QUANTILES = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1)
LENGTHS = {
    "CoLA": (4, 5, 6, 7, 8, 9, 10, 10, 11, 12, 14, 17, 20, 25, 32, 47),
    "STS-B": (10, 13, 15, 16, 18, 19, 21, 23, 25, 28, 35, 51, 60, 75, 93, 125),
    "RTE": (13, 21, 29, 33, 40, 45, 50, 56, 62, 72, 103, 128, 128, 128, 128, 128),
    "MNLI": (8, 11, 17, 20, 24, 28, 32, 37, 41, 47, 53, 62, 70, 101, 122, 128),
}
PACKED = ("CoLA", "STS-B", "RTE")  # the lengths of the rows with --mask_padding
# Method → the weights of its objective, beside DEFAULTS.
METHODS = {
    "fine-tuning": {"alpha": 1.0}, "KD": {}, "PKD": {"pkd": 1.0}, "MiniLM": {"minilm": 1.0},
    "RKD": {"rkd_distance": 1.0, "rkd_angle": 1.0}, "FSD_I": {"gamma_i": 1.0}, "FSD_L": {"gamma_l": 1.0},
    "FSD_G": {"gamma_g": 1.0}, "FSD_IL": {"gamma_i": 1.0, "gamma_l": 1.0},
    "FSD_ILG": {"gamma_i": 1.0, "gamma_l": 1.0, "gamma_g": 1.0},
}
RECORDED_BY = 30  # steps, in which --cuda_graphs has met nearly every length twice
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


class Clock(Tracker):
    """A run's tracker that takes the time: it is told of each logging step, once the device has done it."""

    def __init__(self, folder):
        super().__init__(folder, "benchmark")
        self.times = {}

    def scalars(self, prefix, values, step):
        """As a tracker does, and note when the step ended."""
        super().scalars(prefix, values, step)
        self.times[step] = time.perf_counter()


def bare_kd(teacher, student, data, batch_size, precision, steps):
    """The minimal distillation loop that every ratio divides by; the seconds of ``steps`` steps after the first one."""
    input_ids, labels = data.input_ids.long(), data.labels
    token_type_ids = data.token_type_ids.long()
    attention_mask = (torch.arange(input_ids.shape[1]) < data.lengths[:, None]).long().to(input_ids.device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-5, fused=True)
    student.train()
    for step, rows in enumerate(torch.randperm(len(labels)).to(input_ids.device).split(batch_size)[: steps + 1]):
        batch = {
            "input_ids": input_ids[rows], "attention_mask": attention_mask[rows], "token_type_ids": token_type_ids[rows],
        }
        with autocast(input_ids.device, precision):
            with torch.no_grad():
                teacher_logits = teacher(**batch).logits
            student_logits = student(**batch).logits
        teacher_logits, student_logits = teacher_logits.float(), student_logits.float()
        dark_knowledge = F.kl_div(
            F.log_softmax(student_logits / 5, dim=-1), F.log_softmax(teacher_logits / 5, dim=-1),
            reduction="batchmean", log_target=True,
        )
        loss = 0.5 * F.cross_entropy(student_logits, labels[rows]) + 0.5 * 25 * dark_knowledge
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:  # it fills the optimizer's state
            synchronize(input_ids.device)
            start = time.perf_counter()
    synchronize(input_ids.device)
    return time.perf_counter() - start


class Bench:
    """Teacher, student and data of one size, and our training loop over them."""

    def __init__(self, size, device, steps, folder):
        self.size, self.device, self.steps, self.folder = size, device, steps or max(BLOCK_STEPS), folder
        config = BertConfig(
            hidden_size=size.hidden_size, num_hidden_layers=size.teacher_layers, num_attention_heads=size.hidden_size // 64,
            intermediate_size=4 * size.hidden_size, num_labels=2, max_position_embeddings=max(512, size.length),
        )
        self.teacher = freeze(new_model(config, 0)).to(device)
        config.num_hidden_layers //= 2
        self.student = new_model(config, 1).to(device)
        self.examples = (max(self.steps, 50) + 1) * size.batch_size  # a block has one step more, its first
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

    def bare(self, bf16=False):
        """The minimal loop as a contender."""
        batches, precision = [(self.size.batch_size, self.size.length)], torch.bfloat16 if bf16 else None

        def steps(count):
            return bare_kd(self.teacher, self.student, self.data["CoLA"], self.size.batch_size, precision, count)

        return Contender("bare KD loop", "--bf16" if bf16 else "", steps, self.flops(batches, cached=False),
                         "bfloat16" if bf16 else "float32")

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
        clock = Clock(self.folder)
        seed = min(range(100), key=lambda seed: self.bias(with_settings(run, seed=seed)))
        batches = [self.shape(run, batch) for update in with_settings(run, seed=seed).update_batches(0)
                   for batch in update]

        def steps(count):
            # The clock starts at a logging step: at the first one, or with graphs when those of all lengths are recorded.
            start = max(count, RECORDED_BY) if run.settings.cuda_graphs else 1
            logging_steps = start if run.settings.cuda_graphs else count + 1
            changes = {"seed": seed, "max_steps": start + count, "logging_steps": logging_steps}
            with contextlib.redirect_stderr(io.StringIO()):  # hides the log
                train(with_settings(run, **changes), clock)
            clock.flush()
            return clock.times[start + count] - clock.times[start]

        precision = "bfloat16" if run.settings.bf16 else "float16" if run.settings.fp16 else "float32"
        flops = self.flops(batches, cached=run.teacher_cache is not None or not run.objective.needs_teacher)
        return Contender(method, options_text(flags, lengths), steps, flops, precision)

    def inference(self, method):
        """The evaluation of a method's student as a contender. Its steps are batches; all students are the same network."""
        student, data = copy.deepcopy(self.student), self.data["RTE"]

        def steps(count):
            examples = data.subset(torch.arange(count * self.size.batch_size))
            with contextlib.redirect_stderr(io.StringIO()):  # hides the progress bar
                return seconds_of(lambda: predict_logits(student, examples, self.size.batch_size), self.device)[0]

        return Contender(method, "", steps)

    def evaluations(self, lengths):
        """(bare forward over batches of sorted lengths, [our evaluation]) as contenders. Their steps are batches."""
        data, task, size = self.data[lengths], find_task("CoLA"), self.size

        @torch.no_grad()
        def bare(examples):
            self.student.eval()
            logits = []
            for rows in examples.lengths.argsort().split(size.batch_size):
                longest = int(examples.lengths[rows].max())
                mask = (torch.arange(longest) < examples.lengths[rows, None]).long().to(self.device)
                logits.append(self.student(input_ids=examples.input_ids[rows, :longest].long(), attention_mask=mask,
                                           token_type_ids=examples.token_type_ids[rows, :longest].long()).logits)
            return torch.cat(logits).cpu()

        def ours(examples):
            with contextlib.redirect_stderr(io.StringIO()):  # hides the progress bar
                return evaluate(self.student, task, [examples], size.batch_size)

        def timed(function):
            def steps(count):
                examples = data.subset(torch.arange(count * size.batch_size))
                return seconds_of(lambda: function(examples), self.device)[0]

            return steps

        options = f"({lengths}'s lengths)"
        return Contender("bare forward", options, timed(bare)), [Contender("--do_eval", options, timed(ours))]

    def bias(self, run):
        """The difference in mean length between the batches of a block and all batches."""
        longest = [run.train_set.lengths[batch].max().item() for update in run.update_batches(0) for batch in update]
        return abs(statistics.fmean(longest[1 : self.steps + 1]) - statistics.fmean(longest))

    def shape(self, run, indices):
        """(rows, positions in each) of what the models read of a batch, after cutting and packing."""
        inputs = batch_inputs(replace(run, teacher_cache=None), indices)
        return inputs.packing.shape if inputs.packing else tuple(inputs.batch["input_ids"].shape)

    def flops(self, batches, cached):
        """Floating-point operations of the models' matrix products in an average step over [(rows, length)].

        A layer's forward takes 24 d² + 4 S d per token, its backward twice that. Softmax, LayerNorm, losses and the
        optimizer are not counted.
        """
        d, depth = self.size.hidden_size, self.size.teacher_layers
        passes = (0 if cached else depth) + 3 * (depth // 2)
        return statistics.fmean(rows * length * (24 * d * d + 4 * length * d) * passes for rows, length in batches)


def options_text(flags, lengths):
    """The options of a row of the tables."""
    about = f" ({lengths}'s lengths)" if "--mask_padding" in flags else ""
    return " ".join(flag for flag in flags if flag != "ram") + about


def with_settings(run, **changes):
    """The run with other settings."""
    return replace(run, settings=replace(run.settings, **changes))
