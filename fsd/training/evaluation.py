"""Dev metrics and test predictions."""

import torch

from fsd.glue.metrics import compute_metrics, main_metric, majority_metrics
from fsd.glue.predictions import write_predictions
from fsd.models.forward import forward
from fsd.system.errors import InputError
from fsd.system.launcher import is_main_process
from fsd.system.logs import progress_bar
from fsd.system.processes import rank, sum_over_processes, world_size


@torch.no_grad()
def predict_logits(model, dataset, batch_size, progress="predicting"):
    """Logits [N, C] (float32, on the CPU) of a model in eval mode, in the dataset's order.

    Examples of similar length run together, at the length of the longest, which changes the logits only by rounding. With
    several processes, each runs a share of the batches, and all get all logits.

    Raises:
        InputError: a logit is not finite.
    """
    was_training = model.training
    model.eval()
    batches = dataset.lengths.argsort(stable=True).split(batch_size)
    batches = batches[rank() :: world_size()]  # each process gets short and long ones
    logits = torch.zeros(len(dataset), model.config.num_labels, device=dataset.device)
    with progress_bar(total=sum(map(len, batches)), desc=progress, unit="example", leave=False) as bar:
        for indices in batches:
            logits[dataset.on_device(indices)] = forward(model, dataset.batch(indices, cut_to_longest=True))[0]
            bar.update(len(indices))
    model.train(was_training)
    logits = sum_over_processes(logits).cpu()
    if not logits.isfinite().all():
        raise InputError("the model's logits are not finite; it has diverged, lower its learning rate")
    return logits


def decisions(task, logits):
    """Predicted class ids [N], or scores [N] for a regression task, as a NumPy array."""
    return logits.squeeze(-1).numpy() if task.regression else logits.argmax(dim=-1).numpy()


def evaluate(model, task, dev_sets, batch_size, progress="evaluating"):
    """Official metrics of a model on a task's dev sets: {metric: value}; for MNLI ``mnli/…`` and ``mnli-mm/…``."""
    metrics = {}
    for dataset in dev_sets:
        predictions = decisions(task, predict_logits(model, dataset, batch_size, progress))
        metrics |= compute_metrics(task, predictions, dataset.labels.cpu().numpy(), dataset.split)
    return metrics


def is_at_chance(task, metrics, dev_set):
    """Whether the main metric is no better than always answering with the most common label (or the mean score)."""
    chance = majority_metrics(task, dev_set.labels.cpu().numpy())
    return metrics[main_metric(task)] <= chance[main_metric(task)]


def predict_test_sets(model, task, test_sets, batch_size, folder):
    """Write the leaderboard file of each test set into ``folder`` and return the paths. Only the main process writes."""
    paths = []
    for dataset in test_sets:
        predictions = decisions(task, predict_logits(model, dataset, batch_size))
        if is_main_process():
            paths.append(write_predictions(task, dataset.split, dataset.index, predictions, folder))
    return paths


def format_metrics(metrics):
    """"name value, name value, …" with four decimals."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
