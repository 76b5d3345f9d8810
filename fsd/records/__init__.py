"""Everything a run writes to disk: its folder, checkpoints, results row, TensorBoard; and where it resumes."""
