"""The command lines: their flags, checks, and one module per program."""
