"""Names without the folders of this machine, for files that one may upload."""

import os


def public_name(path):
    """The last part of an absolute path; a relative path or a name stays."""
    return os.path.basename(os.path.normpath(path)) if os.path.isabs(path) else path


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
