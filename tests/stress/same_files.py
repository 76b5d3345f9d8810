"""Whether two runs left the same files."""

from safetensors import safe_open


def compare_files(alone, killed):
    """Files that are missing, extra or different; files that always vary need only exist."""
    found = []
    files = [{path.relative_to(folder): path for path in folder.rglob("*")} for folder in (alone, killed)]
    if files[0].keys() != files[1].keys():
        found.append(f"files {sorted(map(str, files[0].keys() ^ files[1].keys()))} are in only one of the two runs")
    for name in files[0].keys() & files[1].keys():
        # training_args.json and training_state.json hold times and names, README.md the versions with the commit.
        if files[0][name].is_file() and name.name not in ("training_args.json", "training_state.json", "README.md"):
            contents = [content(paths[name]) for paths in files]
            if contents[0] != contents[1]:
                found.append(f"{name} has different content")
    return found


def content(path):
    """A file's exact content; for a safetensors file without the order of its metadata, which varies."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return file.metadata(), {name: (value.dtype, value.shape, value.tobytes()) for name, value in tensors.items()}
