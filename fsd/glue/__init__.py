"""GLUE: tasks, files, encoding, metrics, predictions."""
