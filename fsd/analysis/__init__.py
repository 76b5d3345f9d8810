"""What was transferred, from the checkpoints of a teacher and a student."""
