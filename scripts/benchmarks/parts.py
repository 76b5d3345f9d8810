"""What a step of FSD_ILG does beside KD's: each loss with its backward pass, the products of L_G alone, and the optimizer."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from fsd.method.global_structure import global_inter_feature_terms, memory_products
from fsd.method.losses import intra_feature_loss, local_inter_feature_loss
from fsd.training.update import make_optimizer

from benchmarks.tables import rows_beside
from benchmarks.timing import Contender, seconds_of
from benchmarks.training import DEFAULTS, Bench

CENTROIDS = (100, 300)  # the paper's numbers of centroids


def measure_parts(sizes, device):
    """Yield rows: each part beside a whole step of KD, without padding, in float32."""
    for size, pairs, steps in sizes:
        steps = steps or 20
        for centroids in CENTROIDS:
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(replace(size, centroids=centroids), device, steps, Path(folder))
                others = [part(name, function, device) for name, function in parts(bench).items()]
                yield rows_beside(bench.size, bench.ours("KD"), others, steps, pairs, device, "steps of KD and of each part")


def part(name, function, device):
    """A function as a contender, called as often as another one makes steps."""

    def steps(count):
        return seconds_of(lambda: [function() for _ in range(count)], device)[0]

    return Contender(name, "", steps)


def parts(bench):
    """Name → function without arguments, on features of the size of the last layers' inputs."""
    size, run = bench.size, bench.run("FSD_ILG", bench.data["CoLA"])
    student, teacher = (torch.randn(size.batch_size, size.length, size.hidden_size, device=bench.device) for _ in range(2))
    student.requires_grad_()
    return {
        "L_I": lambda: backward(intra_feature_loss(student, teacher), student),
        "L_L": lambda: backward(local_inter_feature_loss(student, teacher), student),
        "L_G": lambda: global_loss(student, teacher, run),
        "L_G's matrix products alone": products(student, run.student_memory.centroids),
        "clipping and AdamW, student": optimizer_step(bench.run("KD", bench.data["CoLA"])),
        "clipping and AdamW, student and memory": optimizer_step(run),
    }


def backward(loss, student):
    """The backward pass of a loss; drops the gradient."""
    loss.backward()
    student.grad = None


def global_loss(student, teacher, run):
    """L_G and its backward pass."""
    memory, gamma_m = run.student_memory, DEFAULTS["gamma_m"]
    terms = global_inter_feature_terms(student, teacher, memory_products(memory.centroids, memory.spare), run.teacher_memory)
    backward(gamma_m * terms.distance + (1 - gamma_m) * terms.cosine + terms.memory_cka, student)
    memory.drop_gradient()


def products(student, centroids):
    """The products that L_G cannot do without: M Mᵀ, F Mᵀ of both models, (G + Gᵀ) M + Cᵀ F and C M."""
    memory, features = centroids.detach().flatten(1), student.detach().flatten(1)
    square, rectangle = torch.randn_like(memory @ memory.mT), torch.randn_like(features @ memory.mT)
    gradient = torch.empty_like(memory)

    def run():
        for rows in (memory, features, features):
            rows @ memory.mT
        torch.mm(square, memory, out=gradient).addmm_(rectangle.mT, features)
        rectangle @ memory

    return run


def optimizer_step(run):
    """Clipping and the step of AdamW over what a run trains, with constant gradients."""
    optimizer, parameters = make_optimizer(run)
    gradients = [torch.full_like(parameter, 1e-6) for parameter in parameters]

    def step():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient  # again each time: the steps of KD drop it
        nn.utils.clip_grad_norm_(parameters, run.settings.max_grad_norm)
        optimizer.step()

    return step
