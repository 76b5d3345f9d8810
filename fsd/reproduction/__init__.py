"""The paper's experiments from end to end: what was run, its tables and figures beside the published numbers."""
