"""What a batch does to student, memory and teacher."""

from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from fsd.glue.dataset import EncodedDataset
from fsd.glue.tasks import find_task
from fsd.memory.student_memory import StudentMemory
from fsd.method import global_structure
from fsd.method.objective import Objective, layer_pairs
from fsd.training.batch import batch_inputs, batch_losses, batch_outputs
from fsd.training.run import Run, TrainingSettings


@pytest.mark.parametrize("mask_padding", [False, True])
def test_the_teacher_gets_no_gradient(mask_padding):
    """Even one whose parameters were left trainable: the loop never puts it into the graph."""

    def bert(layers, width):
        return BertForSequenceClassification(BertConfig(
            vocab_size=20, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=8, num_labels=2,
        ))

    train_set = EncodedDataset(
        1 + torch.arange(18, dtype=torch.int32).view(3, 6), torch.zeros(3, 6, dtype=torch.uint8), torch.tensor([6, 4, 2]),
        torch.tensor([0, 1, 0]), None, "train", "fingerprint",
    )
    pairs = tuple(layer_pairs(4, 2))
    objective = Objective(0.25, 4.0, 8.0, 0.25, 0.5, 0.5, gamma_m=0.125, pairs=pairs, default_pair=pairs[0])
    settings = TrainingSettings(mask_padding=mask_padding, max_seq_length=6, per_gpu_train_batch_size=3)
    torch.manual_seed(0)
    teacher, student = bert(4, 8).eval(), bert(2, 4)
    memory = StudentMemory(5, 6, 4, seed=0)
    student_memory = memory.centroids
    run = Run(
        find_task("RTE"), settings=settings, output_dir=None, objective=objective,
        device=torch.device("cpu"), tokenizer=None, student=student, train_set=train_set, dev_sets=[], teacher=teacher,
        student_memory=memory,
        teacher_memory=global_structure.memory_products(torch.randn(5, 6 * 8)),
    )
    values = batch_losses(run, batch_outputs(run, batch_inputs(run, torch.arange(3))))
    for name, value in values.items():  # every single loss reaches the student or its memory
        reached = student_memory if name == "memory_cka" else student.bert.embeddings.word_embeddings.weight
        (gradient,) = torch.autograd.grad(value, reached, retain_graph=True)
        assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0, name
    run.objective.total(values).backward()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert student_memory.grad.abs().sum() > 0 and student.classifier.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("epochs, per_epoch, steps", [(1.1, 50, 55), (3.0, 115, 345), (0.5, 115, 58), (0.001, 50, 1)])
def test_a_part_of_an_epoch_is_rounded_up_to_whole_steps(epochs, per_epoch, steps):
    run = SimpleNamespace(settings=TrainingSettings(num_train_epochs=epochs), steps_per_epoch=per_epoch)
    assert Run.steps.fget(run) == steps
