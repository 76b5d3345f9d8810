"""Finding, loading and building the teacher and the student."""
