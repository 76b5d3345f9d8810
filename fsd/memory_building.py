"""Building the teacher memory: the teacher's features over the training set, and their clustering."""

import math
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from fsd import distributed, models, resuming, tracking
from fsd.encoding import encode_split, tokenizer_hash, train_subset
from fsd.files import is_main_process
from fsd.glue import find_task
from fsd.hardware import describe_device, pick_device
from fsd.kmeans import Plan, cluster
from fsd.losses import zero_padding
from fsd.memory import TeacherMemory
from fsd.objective import layer_pairs
from fsd.stopping import Stopped
from fsd.tracking import logger

STATE_FILE = "clustering.safetensors"  # what is kept between passes, until the memory is written


def build_memory(args):
    """Cluster the teacher's features as the arguments say and write ``memory.safetensors``."""
    task, device = find_task(args.task_name), pick_device(args.no_cuda)
    with tracking.start_logging(), distributed.process_group(device):
        tokenizer = models.load_tokenizer(args)
        teacher = models.load_teacher(args, task, tokenizer)
        dataset = encode_split(task, args.data_dir, "train", tokenizer, args.max_seq_length, args.overwrite_cache)
        if args.max_train_samples > 0:
            dataset = train_subset(dataset, args.max_train_samples, args.seed)
        teacher_hash = models.model_hash(teacher)
        distributed.check_same({"training data": dataset.fingerprint, "teacher": teacher_hash})
        plan = Plan(
            len(dataset), args.max_seq_length * teacher.config.hidden_size, args.num_centroid,
            args.memory_num_train_epochs, args.feature_cache_gb * 1e9,
            batch_size=args.per_gpu_memory_train_batch_size or args.per_gpu_train_batch_size,
        )
        wanted = resuming.settings(
            args, task_name=task.name, model_name_or_path=teacher_hash, data_dir=dataset.fingerprint
        )
        with resuming.held(args.output_dir):
            beginning = resuming.find_beginning(args, wanted, f"{task.name}-memory-{args.seed}")
            if beginning is not None:
                facts = {"arguments": vars(args), "processes": distributed.world_size(), "versions": tracking.versions()}
                tracker = resuming.begin(args, beginning, wanted, facts)
                cluster_features(args, task, device, tokenizer, teacher, teacher_hash, dataset, plan, tracker)
                resuming.write_record(args.output_dir, beginning, wanted, finished=True, **facts)
            if is_main_process():
                (Path(args.output_dir) / STATE_FILE).unlink(missing_ok=True)


def cluster_features(args, task, device, tokenizer, teacher, teacher_hash, dataset, plan, tracker):
    """Run the passes, or those that an earlier run has left, and write the memory."""
    width, depth = teacher.config.hidden_size, teacher.config.num_hidden_layers
    layer = layer_pairs(depth, 1)[0][0]
    versions = ", ".join(f"{name} {value}" for name, value in tracking.versions().items())
    logger.info("memory of %s on %s; %s", task.name, describe_device(device), versions)
    logger.info("teacher: %s, hidden states %d of %d layers of width %d; length %d, %s", args.model_name_or_path, layer,
                depth, width, args.max_seq_length, "padding masked" if args.mask_padding else "all positions")
    logger.info("%s", plan.describe())
    start, state_file = time.perf_counter(), Path(args.output_dir) / STATE_FILE
    source = TeacherFeatures(teacher.to(device), layer, dataset.to(device), args, tracker)
    try:
        clustering = cluster(
            source.batches, plan, seed=args.seed, device=device, tolerance=args.memory_tolerance,
            log=lambda report: report_pass(report, tracker), progress=is_main_process(), examples=source.examples,
            state_file=state_file,
        )
    except Stopped as stopped:
        goes_on = "goes on after the last whole pass" if state_file.exists() else "begins anew"
        raise Stopped(stopped.number, f": the same command with --resume {goes_on}") from None
    if not is_main_process():
        return
    memory = TeacherMemory(
        clustering.centroids.view(args.num_centroid, args.max_seq_length, width), clustering.counts,
        task=task.name, teacher=args.model_name_or_path, teacher_hash=teacher_hash,
        tokenizer_hash=tokenizer_hash(tokenizer), layer=layer, mask_padding=args.mask_padding,
        examples=len(dataset), passes=clustering.passes, inertia=clustering.inertia, seed=args.seed,
    )
    path = memory.save(args.output_dir)
    seconds = time.perf_counter() - start
    tracker.finish(vars(args), {"inertia": clustering.inertia, "seconds": seconds}, clustering.passes)
    logger.info("wrote %s: %d centroids, %d to %d examples each, inertia %.6g, %.1f s", path, args.num_centroid,
                clustering.counts.min(), clustering.counts.max(), clustering.inertia, seconds)


class TeacherFeatures:
    """The flattened features [b, S·d] of one teacher layer over a dataset, batch by batch in the dataset's order.

    Of several processes each has a share of the batches that one would run: those of ``examples``, a range.
    """

    def __init__(self, teacher, layer, dataset, args, tracker):
        # hidden_states[layer] is what the layer before it puts out: later layers need not run.
        teacher.bert.encoder.layer = teacher.bert.encoder.layer[:layer]
        self.encoder, self.dataset, self.args, self.tracker = teacher.bert, dataset, args, tracker
        self.batch_size = args.per_gpu_memory_train_batch_size or args.per_gpu_train_batch_size
        share = distributed.share(math.ceil(len(dataset) / self.batch_size))
        self.examples = range(len(dataset))[share.start * self.batch_size : share.stop * self.batch_size]
        self.steps = 0

    @torch.no_grad()
    def batches(self):
        """Yield (index of the first example, features [b, S·d])."""
        since = time.perf_counter()
        for start in self.examples[:: self.batch_size]:
            yield start, self._features(torch.arange(start, min(start + self.batch_size, self.examples.stop)))
            self.steps += 1
            if self.steps % self.args.logging_steps == 0:
                now = time.perf_counter()
                rate = self.args.logging_steps * self.batch_size * distributed.world_size() / (now - since)
                self.tracker.scalars("memory", {"examples_per_second": rate}, self.steps)
                since = now

    def _features(self, indices):
        batch = self.dataset.batch(indices, cut_to_longest=self.args.mask_padding)
        hidden = self.encoder(
            input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"],
            attention_mask=models.attention_bias(batch["attention_mask"]),
        ).last_hidden_state
        if self.args.mask_padding:
            hidden = zero_padding(hidden, batch["attention_mask"])
            hidden = F.pad(hidden, (0, 0, 0, self.args.max_seq_length - hidden.shape[1]))
        return hidden.flatten(1)


def report_pass(report, tracker):
    """Send a pass's figures to the log and to TensorBoard."""
    logger.info("%s", report.describe())
    values = {"inertia": report.inertia, "refilled": report.refilled, "seconds": report.seconds}
    if report.shift is not None:
        values["shift"] = report.shift
    tracker.scalars("memory", values, report.number)
