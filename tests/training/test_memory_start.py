"""The student memory's start from clusters, and its own learning rate."""

from dataclasses import replace

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from fsd.glue.dataset import EncodedDataset
from fsd.glue.tasks import find_task
from fsd.memory.student_memory import StudentMemory
from fsd.method.objective import Objective, layer_pairs
from fsd.training.memory_start import start_from_clusters
from fsd.training.run import Run, TrainingSettings
from fsd.training.update import make_optimizer

LENGTH, EXAMPLES, CENTROIDS = 9, 11, 4
CLUSTERS = torch.tensor([0, 1, 2, 3, 0, 0, 1, 2, 2, 2, 3])


def run_of(layers=3, width=8, mask_padding=False, **settings):
    torch.manual_seed(1)
    student = BertForSequenceClassification(BertConfig(
        vocab_size=30, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=LENGTH, num_labels=2, initializer_range=0.5,  # with dropout, which must play no part
    )).train()
    lengths = torch.tensor([3, 5, 1, 7, 2, 4, 4, 6, 2, 3, 5])
    ids = torch.randint(5, 30, (EXAMPLES, LENGTH), dtype=torch.int32).masked_fill(torch.arange(LENGTH) >= lengths[:, None], 0)
    train_set = EncodedDataset(ids, torch.zeros_like(ids, dtype=torch.uint8), lengths, torch.zeros(EXAMPLES).long(), None,
                               "train", "")
    objective = Objective(0.5, beta=1.0, gamma_g=1.0, default_pair=layer_pairs(6, layers)[0])
    settings = TrainingSettings(max_seq_length=LENGTH, per_gpu_train_batch_size=4, mask_padding=mask_padding, **settings)
    return Run(find_task("RTE"), objective, settings, None, torch.device("cpu"), None, student, train_set, [],
               student_memory=StudentMemory(CENTROIDS, LENGTH, width, seed=0), clusters=CLUSTERS)


@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("layers, width", [(3, 8), (5, 4), (1, 8)], ids=["usual", "deeper and narrower", "one layer"])
def test_the_centroids_are_the_means_of_the_student_s_own_features(layers, width, mask_padding):
    run = run_of(layers, width, mask_padding)
    start_from_clusters(run)
    found = run.student_memory.centroids
    assert found.requires_grad and found.shape == (CENTROIDS, LENGTH, width) and found.dtype == torch.float32
    run.student.eval()
    features = []
    for index in range(EXAMPLES):  # one by one, at full length, with the model's own call
        batch = run.train_set.batch(torch.tensor([index]))
        batch.pop("labels")
        with torch.no_grad():
            hidden = run.student(**batch, output_hidden_states=True).hidden_states[layers - 1][0]
        features.append(hidden * batch["attention_mask"][0, :, None] if mask_padding else hidden)
    means = [torch.stack([features[i] for i in range(EXAMPLES) if CLUSTERS[i] == k]).mean(dim=0) for k in range(CENTROIDS)]
    torch.testing.assert_close(found, torch.stack(means), rtol=1e-5, atol=1e-5)


def test_the_start_is_the_same_each_time_and_draws_no_random_number():
    starts, states = [], []
    for seed in (0, 1):
        run = run_of()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        start_from_clusters(run)
        starts.append(run.student_memory.centroids.detach())
        states.append(torch.equal(torch.get_rng_state(), state))
    assert torch.equal(*starts) and all(states)


def test_the_memory_s_learning_rate_is_its_own():
    run = run_of(learning_rate=1e-3, weight_decay=0.1, memory_learning_rate=0.5)
    optimizer, parameters = make_optimizer(run)
    memory = run.student_memory.centroids
    (own,) = (group for group in optimizer.param_groups if any(parameter is memory for parameter in group["params"]))
    assert len(own["params"]) == 1 and (own["lr"], own["weight_decay"]) == (0.5, 0.1)
    assert [group["lr"] for group in optimizer.param_groups if group is not own] == [1e-3, 1e-3]
    assert len(parameters) == len(list(run.student.parameters())) + 1
    shared, plain = make_optimizer(replace(run, settings=replace(run.settings, memory_learning_rate=None)))
    assert len(shared.param_groups) == 2 and len(plain) == len(parameters)
    assert shared.param_groups[0]["params"][-1] is memory


def test_without_a_memory_nothing_changes():
    run = replace(run_of(), student_memory=None)
    optimizer, parameters = make_optimizer(run)
    assert len(optimizer.param_groups) == 2 and len(parameters) == len(list(run.student.parameters()))
