"""The machine: files, signals, processes, devices, random streams, errors."""
