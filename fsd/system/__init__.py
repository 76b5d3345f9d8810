"""The machine: whole files, signals, processes, devices, random streams, errors."""
