"""Dev metrics and test predictions."""

import torch
from tqdm import tqdm

from fsd.glue import write_predictions
from fsd.metrics import compute_metrics, main_metric, majority_metrics
from fsd.models import forward


@torch.no_grad()
def predict_logits(model, dataset, batch_size, progress=""):
    """Logits [N, C] (float32, on the CPU) of a model in eval mode, in the dataset's order.

    Each batch runs at the length of its longest example, which changes logits by rounding only.
    """
    was_training = model.training
    model.eval()
    logits = []
    with tqdm(total=len(dataset), desc=progress, unit="ex", leave=False, disable=not progress) as bar:
        for indices in torch.arange(len(dataset)).split(batch_size):
            logits.append(forward(model, dataset.batch(indices, cut_to_longest=True))[0])
            bar.update(len(indices))
    model.train(was_training)
    return torch.cat(logits).float().cpu()


def decisions(task, logits):
    """Predicted class ids [N], or scores [N] for a regression task, as a NumPy array."""
    return logits.squeeze(-1).numpy() if task.regression else logits.argmax(dim=-1).numpy()


def evaluate(model, task, dev_sets, batch_size, progress="evaluating"):
    """Official metrics of a model on a task's dev sets: {metric: value}, MNLI's named ``mnli/…`` and ``mnli-mm/…``."""
    metrics = {}
    for dataset in dev_sets:
        predictions = decisions(task, predict_logits(model, dataset, batch_size, progress))
        metrics |= compute_metrics(task, predictions, dataset.labels.cpu().numpy(), dataset.split)
    return metrics


def is_at_chance(task, metrics, dev_set):
    """Whether the main metric is not above that of always answering with the commonest label (or the mean score)."""
    chance = majority_metrics(task, dev_set.labels.cpu().numpy())
    return metrics[main_metric(task)] <= chance[main_metric(task)]


def predict_test_sets(model, task, test_sets, batch_size, folder):
    """Write the leaderboard file of each test set into ``folder``; returns their paths."""
    return [
        write_predictions(
            task, dataset.split, dataset.index,
            decisions(task, predict_logits(model, dataset, batch_size, "predicting")), folder,
        )
        for dataset in test_sets
    ]
