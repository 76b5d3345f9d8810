"""The task loss and dark knowledge against a float64 formula in NumPy, their gradients, and extreme logits."""

import numpy as np
import pytest
import torch
from references import B, both_precisions, leaf, normal

from fsd.method.losses import kd_loss, task_loss


@both_precisions
def test_cross_entropy(dtype, tolerance):
    logits, labels = 3 * normal(B, 3), [0, 2, 1, 1, 2]
    rows = logits.numpy()
    expected = np.mean([np.log(np.sum(np.exp(row))) - row[label] for row, label in zip(rows, labels, strict=True)])
    assert task_loss(logits.to(dtype), torch.tensor(labels)).item() == pytest.approx(expected, rel=tolerance)


@both_precisions
def test_squared_error_with_one_logit(dtype, tolerance):
    logits, scores = normal(B, 1), 5 * normal(B, seed=1).abs()
    expected = np.mean([(logits[b, 0].item() - scores[b].item()) ** 2 for b in range(B)])
    # labels come as float32, whatever the logits are: 6e-8 of each score
    assert task_loss(logits.to(dtype), scores.float()).item() == pytest.approx(expected, rel=max(tolerance, 1e-6))


@both_precisions
@pytest.mark.parametrize("temperature", [1.0, 5.0, 0.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_dark_knowledge(temperature, classes, dtype, tolerance):
    student, teacher = 3 * normal(B, classes), 3 * normal(B, classes, seed=1)
    expected = []
    for s, t in zip(student.numpy() / temperature, teacher.numpy() / temperature, strict=True):
        p, q = np.exp(t) / np.sum(np.exp(t)), np.exp(s) / np.sum(np.exp(s))
        expected.append(temperature**2 * np.sum(p * np.log(p / q)))
    assert kd_loss(student.to(dtype), teacher.to(dtype), temperature).item() == pytest.approx(np.mean(expected), rel=tolerance)


def test_dark_knowledge_of_equal_and_of_extreme_logits():
    logits = 3 * normal(B, 3)
    assert kd_loss(logits, logits.clone(), 5.0).item() == 0
    assert kd_loss(logits, logits + 7, 5.0).item() == pytest.approx(0, abs=1e-12)  # a softmax ignores a common shift
    # Saturated probabilities: exp(−1000) is 0, and the naive p·log(p/q) would be NaN. KL of certainties is their gap.
    student, teacher = torch.tensor([[1000.0, 0.0]]).requires_grad_(), torch.tensor([[0.0, 1000.0]])
    loss = kd_loss(student, teacher, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1000) and torch.equal(student.grad, torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize("temperature", [1.0, 5.0, 0.5])
def test_dark_knowledge_of_one_logit_is_squared_error(temperature):
    student, teacher = normal(B, 1), normal(B, 1, seed=1)
    expected = np.mean([(student[b].item() - teacher[b].item()) ** 2 for b in range(B)])
    assert expected > 0.1
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-10)


def test_gradient_of_logits():
    labels, scores = torch.tensor([0, 2, 1, 1, 2]), normal(B, seed=2)
    assert torch.autograd.gradcheck(lambda z: task_loss(z, labels), leaf(normal(B, 3)))
    assert torch.autograd.gradcheck(lambda z: task_loss(z, scores), leaf(normal(B, 1)))
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, normal(B, 3, seed=1), 5.0), leaf(normal(B, 3)))
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, normal(B, 1, seed=1), 5.0), leaf(normal(B, 1)))


@pytest.mark.parametrize("temperature", [1.0, 100.0, 1_000.0, 10_000.0])
def test_dark_knowledge_is_no_rounding_noise_at_a_high_temperature(temperature):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(32, 3, generator=generator) for _ in range(2))
    z_s, z_t = student.double() / temperature, teacher.double() / temperature
    p, q = torch.softmax(z_t, -1), torch.softmax(z_s, -1)
    # log1p keeps the digits where p and q are nearly equal.
    expected = temperature**2 * -(p * torch.log1p((q - p) / p)).sum(-1).mean()
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-4)
