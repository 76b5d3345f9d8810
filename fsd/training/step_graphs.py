"""CUDA graphs of a training step: all its kernels start at once, where Python would start them one by one."""

import torch

from fsd.system.errors import InputError, first_line


class StepGraphs:
    """Runs a step on the inputs of a batch, with one CUDA graph for each of the batches' shapes.

    Args:
        step: a function of :class:`fsd.training.batch.Inputs` that works on the device alone: it neither waits for it nor reads
            from it, and what it leaves behind is in tensors that were there before.

    The first step of a shape runs as it is, because some kernels cannot be loaded while a graph is recorded. The second is
    recorded. All steps must run on one stream, which is not the default one; see :func:`fsd.system.devices.side_stream`.
    """

    def __init__(self, step):
        self.step, self.recorded, self.pool = step, {}, None

    def run(self, inputs):
        """Run the step on inputs."""
        shape = inputs.batch["input_ids"].shape
        if shape not in self.recorded:
            self.recorded[shape] = None
            return self.step(inputs)
        if self.recorded[shape] is None:
            fixed = inputs.copied()
            self.recorded[shape] = self.record(fixed), fixed
        graph, fixed = self.recorded[shape]
        for own, new in zip(fixed.tensors(), inputs.tensors(), strict=True):
            own.copy_(new)
        graph.replay()

    def record(self, inputs):
        """The CUDA graph of the step on these inputs. Its kernels do not run yet. All graphs share their working memory."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=torch.cuda.current_stream()):
                self.step(inputs)
        except RuntimeError as error:  # out of memory, too
            raise InputError(f"--cuda_graphs: this step cannot be recorded ({first_line(error)}); leave it out") from error
        self.pool = graph.pool()
        return graph
