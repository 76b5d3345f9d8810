"""The paper: pure functions of tensors. This folder imports torch and itself, nothing else."""
