"""The student memory M_S, which is trained together with the student, and its file."""

from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import nn

from fsd.system.files import written_whole
from fsd.system.random_streams import stream_seed

STUDENT_FILE = "student_memory.safetensors"


class StudentMemory(nn.Module):
    """M_S: ``centroids`` [K, S, d], a parameter that the optimizer trains together with the student.

    Args:
        num_centroids, max_seq_length, hidden_size: K of the teacher memory, S, and d of the student.
        seed: for the random start from N(0, 1); uses the seed's stream "student memory".

    Source: section 3 of the paper (random start, then trained); the distribution from the released code.
    """

    def __init__(self, num_centroids, max_seq_length, hidden_size, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(stream_seed(seed, "student memory"))
        self.centroids = nn.Parameter(torch.randn(num_centroids, max_seq_length, hidden_size, generator=generator))
        self.spare = []  # for fsd.method.global_structure.memory_products

    def drop_gradient(self):
        """Set the gradient to None, and keep its RAM for the next one. A GPU's memory needs no such care."""
        if self.centroids.grad is not None and self.centroids.device.type == "cpu":
            self.spare[:] = [self.centroids.grad]
        self.centroids.grad = None

    def save(self, folder):
        """Write ``student_memory.safetensors`` into ``folder`` and return its path. The file appears only when it is complete.

        Raises:
            InputError: it cannot be written.
        """
        path = Path(folder) / STUDENT_FILE
        with written_whole(path) as temporary:
            temporary.write_bytes(safetensors.save({"centroids": self.centroids.detach().cpu().contiguous()}))
        return path
