"""What a run leaves on disk: its folder, checkpoints, results row, TensorBoard; and where it resumes."""
