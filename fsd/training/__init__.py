"""Training: the loop, the cache of the teacher's outputs, evaluation."""
