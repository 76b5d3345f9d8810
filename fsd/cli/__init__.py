"""The command lines: the arguments, and one story for each thing that a user runs."""
