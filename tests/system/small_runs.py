"""Small runs, clusterings and refusals, the same in one process and in each of several."""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from fsd.glue.dataset import EncodedDataset
from fsd.glue.tasks import find_task
from fsd.memory.clustering_plan import Plan
from fsd.memory.clustering_state import State
from fsd.memory.feature_source import FeatureSource
from fsd.memory.streaming_kmeans import cluster, lloyd_pass
from fsd.memory.student_memory import StudentMemory
from fsd.method.global_structure import memory_products
from fsd.method.objective import Objective, layer_pairs
from fsd.models.loading import freeze
from fsd.system import processes as distributed
from fsd.system.errors import InputError
from fsd.training import loop, update
from fsd.training.evaluation import predict_logits
from fsd.training.memory_start import start_from_clusters
from fsd.training.run import Run, TrainingSettings

LENGTH, STEPS = 12, 20
EXAMPLES, BATCH = 19, 6  # the last batch of an epoch has one example, so every process but the first none
CPU = torch.device("cpu")
UNTRACKED = SimpleNamespace(scalars=lambda *values: None)


@dataclass(frozen=True)
class Setting:
    """One configuration that is trained on one process and on several."""

    name: str
    weights: dict
    mask_padding: bool = False
    layerwise: bool = False
    group_by_length: bool = False
    accumulation: int = 1
    regression: bool = False
    fp16: bool = False
    student_width: int = 8
    memory_learning_rate: float | None = None
    starts_from_clusters: bool = False


ILG = {"gamma_i": 1.0, "gamma_l": 1.0, "gamma_g": 0.5}
METHODS = {
    "KD": {}, "FSD_I": {"gamma_i": 1.0}, "FSD_L": {"gamma_l": 1.0}, "FSD_G": {"gamma_g": 0.5}, "FSD_ILG": ILG,
    "RKD": {"rkd_distance": 1.0, "rkd_angle": 2.0}, "MiniLM": {"minilm": 1.0},
}
SETTINGS = [Setting(f"{name}{' masked' * masked}", weights, masked) for name, weights in METHODS.items() for masked in (0, 1)]
SETTINGS += [
    Setting("layerwise", ILG, layerwise=True),
    Setting("grouped and accumulated", ILG, mask_padding=True, group_by_length=True, accumulation=2),
    Setting("regression", {}, regression=True),
    Setting("PKD", {"pkd": 1.0}, layerwise=True, student_width=12),
]
FORMS = {"similarity": "procrustes", "normalize_distances": True}
SETTINGS += [Setting("other forms", ILG | FORMS, memory_learning_rate=1e-2, starts_from_clusters=True)]
OVERFLOWING = Setting("fp16", ILG | {"gamma_i": 1e3}, fp16=True)  # the scaled loss is too large for float16 at first
IN_FLOAT32 = ["KD", "FSD_L", "FSD_ILG", "FSD_ILG masked"]


def bert(layers, width, num_labels, dtype, seed):
    torch.manual_seed(seed)
    return BertForSequenceClassification(BertConfig(
        vocab_size=50, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=2 * width,
        max_position_embeddings=LENGTH, num_labels=num_labels, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )).to(dtype)


def examples(regression=False, count=EXAMPLES):
    """Examples of 1 to 12 tokens; those of one token have no structure inside."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, LENGTH + 1, (count,), generator=generator)
    lengths[:2] = 1
    ids = torch.randint(5, 50, (count, LENGTH), generator=generator, dtype=torch.int32)
    ids[torch.arange(LENGTH) >= lengths[:, None]] = 0
    labels = torch.rand(count, generator=generator) if regression else torch.randint(2, (count,), generator=generator)
    return EncodedDataset(ids, torch.zeros_like(ids, dtype=torch.uint8), lengths, labels, None, "dev", "fingerprint")


def small_run(setting, dtype):
    """A student of another depth and width than its teacher's, about to be trained."""
    num_labels = 1 if setting.regression else 2
    teacher, student = freeze(bert(6, 12, num_labels, dtype, seed=1)), bert(3, setting.student_width, num_labels, dtype, seed=2)
    pairs = tuple(layer_pairs(6, 3, setting.layerwise))
    default = layer_pairs(6, 3)[0]
    objective = Objective(0.5, 2.0, 1.0, gamma_m=0.3, **setting.weights, pairs=pairs, default_pair=default)
    settings = TrainingSettings(
        seed=5, max_seq_length=LENGTH, per_gpu_train_batch_size=BATCH // distributed.world_size(), max_steps=STEPS,
        gradient_accumulation_steps=setting.accumulation, learning_rate=1e-3, weight_decay=0.01, warmup_steps=2,
        mask_padding=setting.mask_padding, group_by_length=setting.group_by_length, fp16=setting.fp16, logging_steps=STEPS,
        save_steps=2 * STEPS, memory_learning_rate=setting.memory_learning_rate,
    )
    train_set = examples(setting.regression)
    memories = ()
    if objective.needs_memory:
        generator = torch.Generator().manual_seed(3)
        teacher_memory = torch.randn(4, LENGTH * 12, generator=generator, dtype=dtype)
        memories = StudentMemory(4, LENGTH, 8, seed=4).to(dtype), memory_products(teacher_memory)
    run = Run(find_task("RTE"), objective, settings, None, CPU, None, student, train_set, [], teacher, *memories,
              clusters=torch.arange(EXAMPLES) % 4)
    if setting.starts_from_clusters:
        start_from_clusters(run)
    return run


def trained(setting, dtype):
    """Losses and gradients of every step [{name: tensor}], and the student's logits at the end."""
    run, losses, gradients = small_run(setting, dtype), [], []
    batch_losses, reduce_gradients = update.batch_losses, update.reduce_gradients

    def recorded_losses(run, outputs):
        losses.append(batch_losses(run, outputs))
        return losses[-1]

    def recorded_gradients(run, batches):
        reduce_gradients(run, batches)
        modules = {"": run.student} | ({"memory": run.student_memory} if run.student_memory else {})
        named = {prefix + name: p.grad for prefix, module in modules.items() for name, p in module.named_parameters()}
        # The gradient of an attention key's bias is zero but for rounding, which Adam magnifies.
        gradients.append({name: grad.clone() for name, grad in named.items() if not name.endswith("key.bias")})

    update.batch_losses, update.reduce_gradients = recorded_losses, recorded_gradients
    try:
        loop.train(run, UNTRACKED)
    finally:
        update.batch_losses, update.reduce_gradients = batch_losses, reduce_gradients
    losses = [{name: value.detach() for name, value in step.items()} for step in losses]
    run.student.eval()
    with torch.no_grad():
        batch = run.train_set.batch(torch.arange(EXAMPLES))
        logits = loop.forward(run.student, batch)[0]
    return losses, gradients, logits


def blobs():
    """101 points around 9 centres in 1500 dimensions, projected; and 40 duplicates of 5 points, whose clusters empty."""
    generator = torch.Generator().manual_seed(6)
    centers = torch.randn(9, 1500, generator=generator)
    points = centers[torch.randint(9, (101,), generator=generator)] + torch.randn(101, 1500, generator=generator)
    return points, torch.randn(5, 20, generator=generator).repeat(8, 1)


def dealt(count, size):
    """The first examples of this process's share of the batches, and all its examples, each a range."""
    share = distributed.share(math.ceil(count / size))
    return range(0, count, size)[share], range(count)[share.start * size : share.stop * size]


def clustered(features, size, cache_bytes, num_centroids=8):
    starts, part = dealt(len(features), size)

    def batches():
        return ((start, features[start : start + size]) for start in starts)

    plan = Plan(*features.shape, num_centroids, 4, cache_bytes)
    made = cluster(batches, plan, seed=0, device="cpu", tolerance=0.0, examples=part)
    return {"centroids": made.centroids, "counts": made.counts, "assignment": made.assignment, "inertia": made.inertia}


def refilled():
    """A pass that empties three clusters of five, because their centroids lie far from all examples."""
    features = blobs()[0][:, :9]
    centroids = torch.cat([features[:2], torch.full((3, 9), 1e3)])
    before = State(torch.zeros(9), torch.zeros(101, dtype=torch.int64), inertia=0.0, centroids=centroids)
    starts, part = dealt(101, size=4)
    source = FeatureSource(lambda: ((start, features[start : start + 4]) for start in starts), Plan(101, 9, 5), CPU, part)
    return vars(lloyd_pass(source, source.plan, before, number=3))


def everything():
    """All that is compared between one process and several."""
    model = bert(2, 8, 3, torch.float32, seed=7)
    return {
        "float64": {setting.name: trained(setting, torch.float64) for setting in SETTINGS},
        "float32": {setting.name: trained(setting, torch.float32) for setting in SETTINGS if setting.name in IN_FLOAT32},
        "dropout": torch.initial_seed(),
        "overflowing": trained(OVERFLOWING, torch.float32),
        "logits": [predict_logits(model, examples(count=count), batch_size=4) for count in (1, 7, 19)],
        "memories": [clustered(features, size, cache_bytes) for features in blobs() for size in (3, 60)
                     for cache_bytes in (0, 1e9)],
        "refilled": refilled(),
    }


def refusal_of_different_files():
    with pytest.raises(InputError) as refused:
        distributed.check_same({"tokenizer": "abc", "training data": f"{distributed.rank():064x}"[::-1]})
    return str(refused.value)


def refusal_of_different_memories():
    run = small_run(Setting("G", {"gamma_g": 0.5}), torch.float32)
    with torch.no_grad():
        run.student_memory.centroids[0, 0, 0] += 1e-6 * distributed.rank()
    with pytest.raises(InputError) as refused:
        loop.train(run, UNTRACKED)
    return str(refused.value)


def sent_in_a_step():
    """How many elements an update of two batches sends in each collective, and how many it should; and whether rows are left."""
    run = small_run(Setting("MiniLM and G", {"minilm": 1.0, "gamma_g": 0.5}, accumulation=2), torch.float32)
    run = replace(run, settings=replace(run.settings, max_steps=1))
    sizes, reduce, gather = {"reduced": [], "gathered": []}, torch.distributed.all_reduce, torch.distributed.all_gather

    def counted_reduce(tensor, *arguments):
        if tensor.is_floating_point():  # not what highest() compares
            sizes["reduced"].append(tensor.numel())
        reduce(tensor, *arguments)

    def counted_gather(parts, own):
        sizes["gathered"].append(len(parts) * own.numel())
        gather(parts, own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "all_reduce", counted_reduce)
        patch.setattr(torch.distributed, "all_gather", counted_gather)
        loop.train(run, UNTRACKED)
    tokens = int(run.train_set.lengths[torch.cat(run.update_batches(0)[0])].sum())
    embeddings = run.student.bert.embeddings.word_embeddings.weight
    parameters = sum(parameter.numel() for parameter in run.student.parameters())
    outputs = [BATCH * 2, BATCH * LENGTH * 8, BATCH * 2, BATCH * LENGTH * 12]
    gradients = parameters - embeddings.numel() + (tokens + 1) * embeddings.shape[1]
    return sizes, {"reduced": [gradients], "gathered": 2 * outputs}, tokens + 1 < len(embeddings)
