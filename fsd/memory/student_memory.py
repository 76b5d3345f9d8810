"""The student memory M_S of the global inter-feature structure, learnt with the student, and its file."""

from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import nn

from fsd.system.files import written_whole
from fsd.system.random_streams import stream_seed

STUDENT_FILE = "student_memory.safetensors"


class StudentMemory(nn.Module):
    """M_S: learnt ``centroids`` [K, S, d], a parameter to be given to the optimizer beside the student's.

    Args:
        num_centroids, max_seq_length, hidden_size: K as in the teacher memory, S, and the student's d.
        seed: of the start, N(0, 1), in the seed's own stream "student memory".

    Source: section 3 of the paper (it starts at random and is trained); the distribution from the released code.
    """

    def __init__(self, num_centroids, max_seq_length, hidden_size, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(stream_seed(seed, "student memory"))
        self.centroids = nn.Parameter(torch.randn(num_centroids, max_seq_length, hidden_size, generator=generator))

    def save(self, folder):
        """Write ``student_memory.safetensors`` into ``folder``, whole or not at all; returns its path."""
        path = Path(folder) / STUDENT_FILE
        with written_whole(path) as temporary:
            temporary.write_bytes(safetensors.save({"centroids": self.centroids.detach().cpu().contiguous()}))
        return path
