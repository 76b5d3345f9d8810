"""Names without the folders of this machine, for files that one may upload."""

import os


def public_name(path):
    """The last part of a path that is absolute, starts with a dot or is there; another text, such as a name of the hub, stays."""
    normal = os.path.normpath(path)
    is_path = os.path.isabs(path) or path.startswith(".") or os.path.exists(path)
    return os.path.basename(normal) if is_path else path


def public_argument(part):
    """One word of a command line, such as ``--flag=/path`` or ``/path``, with the path's last part only."""
    flag, equals, value = part.partition("=") if part.startswith("--") else ("", "", part)
    return flag + equals + public_name(value)


def public_values(value):
    """A JSON value in which every text is a :func:`public_argument`."""
    if isinstance(value, dict):
        return {name: public_values(item) for name, item in value.items()}
    if isinstance(value, list):
        return [public_values(item) for item in value]
    return public_argument(value) if isinstance(value, str) else value
