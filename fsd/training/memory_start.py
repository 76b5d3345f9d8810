"""The start of the student memory from the teacher memory's clusters."""

import math

import torch
from torch.nn import functional as F

from fsd.method.losses import zero_padding
from fsd.models.forward import forward
from fsd.system.logs import progress_bar
from fsd.system.processes import share, sum_over_processes


@torch.no_grad()
def start_from_clusters(run):
    """Set the student memory of a :class:`fsd.training.run.Run` to the means of the student's own features by ``run.clusters``.

    M_S[k] is the mean of the flattened hidden states of the student's compared layer over the examples of cluster k, without
    dropout, in float32, and zero at padding with ``mask_padding``. A cluster without examples is zero. With several processes
    each runs the student on its share of the batches; all then hold the same bits.

    Source: this project's own; the paper starts from random values.
    """
    memory, dataset, settings = run.student_memory.centroids, run.train_set, run.settings
    layer, size = run.objective.default_pair[1], settings.per_gpu_train_batch_size
    sums = torch.zeros(len(memory), memory[0].numel(), dtype=torch.float64, device=run.device)
    own = share(math.ceil(len(dataset) / size))
    examples = torch.arange(len(dataset))[own.start * size : own.stop * size]
    run.student.eval()
    with progress_bar(total=len(examples), desc="the student memory's start", unit="example") as bar:
        for indices in examples.split(size):
            batch = dataset.batch(indices, cut_to_longest=settings.mask_padding)
            hidden = forward(run.student, batch, [layer])[1][layer].float()
            if settings.mask_padding:
                hidden = zero_padding(hidden, batch["attention_mask"])
            hidden = F.pad(hidden, (0, 0, 0, memory.shape[1] - hidden.shape[1]))
            # A product, because adding by index is not the same from run to run on a GPU.
            members = F.one_hot(run.clusters[indices].to(run.device), len(memory)).double()
            sums.addmm_(members.mT, hidden.flatten(1).double())
            bar.update(len(indices))
    counts = run.clusters.bincount(minlength=len(memory)).clamp(min=1).to(run.device)
    memory.copy_((sum_over_processes(sums) / counts[:, None]).view_as(memory))
