"""Odd values, and damage to bytes, JSON and tensors."""

import json

ODD_NUMBERS = (
    "-1", "0", "-0", "1", "2", "0.5", "1.5", "-0.5", "nan", "-nan", "inf", "-inf", "Infinity", "1e400", "-1e400", "1e308",
    "1e-320", "1e-40", "1e39", "1e30", "9" * 25, "9" * 5000, "-" + "9" * 5000, "0." + "0" * 5000 + "1", "0x10", "1_0", "１２",
    " 7 ", "", " ", "+3", "1e5", "abc", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "1,5",
    "½", "1\n2", "--", "\x1b[31m", "None", "true", "1e", ".", "१",
)
ODD_TEXTS = (
    "", " ", ".", "..", "/", "nowhere", "no/such/place", "a\nb", "日本語", "-x", "--help-me", "~", "$HOME", "a" * 300,
    "a/" * 2500,
    "\udcff\udcfe", "\x1b[2J", "data", "data/RTE/train.tsv", "teacher", "teacher/config.json", "results.csv", "fifo", "null",
    "full", "loop", "dangling", "http://localhost/x", "some/hub-name", "bert-base-nowhere", "*", "'",
)
ODD_VALUES = (
    None, True, False, "", "abc", "12", -1, 0, 1, 2, 3, 7, 1000, 10**6, 10**9, 10**12, 2**63, 10**400, 0.5, -0.5, 1e-300, 1e308,
    float("nan"), float("inf"), [], {}, [1], [None], {"a": 1}, "../../secret", "/etc/passwd", "\x00", "\ud800", "x" * 10000,
)


def odd_bytes(rng, content):
    """(what was done, the damaged content)."""
    at = rng.randrange(len(content) + 1)
    end = min(len(content), at + rng.choice((1, 10, 1000)))
    noise = rng.randbytes(rng.choice((1, 16, 300)))
    text = content.decode("utf-8", "replace")
    return rng.choice((
        lambda: ("empty", b""),
        lambda: ("only white space", b" \r\n\t\n"),
        lambda: (f"cut at byte {at}", content[:at]),
        lambda: (f"bytes {at} to {end} missing", content[:at] + content[end:]),
        lambda: (f"{len(noise)} random bytes at {at}", content[:at] + noise + content[at:]),
        lambda: (f"bytes from {at} written over", content[:at] + noise + content[at + len(noise) :]),
        lambda: (f"NULs at {at}", content[:at] + b"\0" * 9 + content[at:]),
        lambda: (f"one bit of byte {at} flipped", content[:at] + bytes([(content + b" ")[at] ^ 4]) + content[at + 1 :]),
        lambda: (f"bytes {at} to {end} twice", content[:end] + content[at:]),
        lambda: ("CRLF", content.replace(b"\n", b"\r\n")),
        lambda: ("lone CR", content.replace(b"\n", b"\r")),
        lambda: ("UTF-16", text.encode("utf-16")),
        lambda: ("Latin-1", text.replace("e", "é").encode("latin-1", "replace")),
        lambda: ("UTF-8 with a mark", b"\xef\xbb\xbf" + content),
        lambda: ("a huge line", content[:at] + b"word " * 200_000 + content[at:]),
        lambda: ("a huge word", content[:at] + b"x" * 1_000_000 + content[at:]),
        lambda: ("Unicode's odd characters", content[:at] + "\u2028\u200b\u202e\U0001f600\ufdd0é\u0301".encode() + content[at:]),
        lambda: ("a control character", content[:at] + b"\x1b[31m\x07\x08" + content[at:]),
        lambda: ("random bytes instead", noise),
        lambda: ("a zip archive's start", b"PK\x03\x04" + content),
    ))()


def odd_json(rng, value, names=()):
    """(what was done, the JSON value with one change); ``names`` are keys that may be added."""
    places = list(json_places(value)) or [(None, None)]
    holder, key = rng.choice(places)
    if names and rng.random() < 0.6:
        holder, key = value, rng.choice(names)
    odd = rng.choice(ODD_VALUES)
    if holder is None:
        return "another value", odd
    if rng.random() < 0.15 and key in (holder if isinstance(holder, dict) else range(len(holder))):
        del holder[key]
        return f"{key!r} missing", value
    holder[key] = odd
    return f"{key!r} is {str(odd)[:40]!r}", value


def json_places(value):
    """(container, key) of every entry at any depth; only the first twenty of long lists and dictionaries."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())[:20]
    for key, child in entries:
        yield value, key
        yield from json_places(child)


def spoil_bytes(rng, path):
    """Damage a file's bytes; returns what was done."""
    what, content = odd_bytes(rng, path.read_bytes())
    path.write_bytes(content)
    return f"{path}: {what}"


def spoil_json(rng, path, names=()):
    """Damage a JSON file, mostly its values; returns what was done."""
    chance = rng.random()
    if chance < 0.15:
        return spoil_bytes(rng, path)
    if chance < 0.18:
        path.write_text("[" * 100_000)
        return f"{path}: nested too deep"
    what, value = odd_json(rng, json.loads(path.read_text(encoding="utf-8")), names)
    for _ in range(rng.choice((0, 0, 1, 3))):
        if isinstance(value, dict):
            more, value = odd_json(rng, value, names)
            what += f", {more}"
    path.write_text(json.dumps(value))
    return f"{path}: {what}"


def merge(path, **values):
    """Set entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values))


def spoil_tensors(rng, path):
    """Damage a safetensors file: its bytes, its header, or a tensor; returns what was done."""
    import torch
    from safetensors.torch import load_file, save_file

    chance = rng.random()
    if chance < 0.3:
        return spoil_bytes(rng, path)
    content = path.read_bytes()
    if chance < 0.6:
        size = int.from_bytes(content[:8], "little")
        what, header = odd_json(rng, json.loads(content[8 : 8 + size]))
        header = json.dumps(header).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
        return f"{path}: header: {what}"
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    value = tensors[name]
    dtype = rng.choice((torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool, torch.float8_e4m3fn))
    what, odd = rng.choice((
        lambda: ("NaN", value.float() * torch.nan), lambda: ("infinity", value.float() + torch.inf),
        lambda: ("one NaN", value.float().flatten().index_fill(0, torch.tensor(0), torch.nan).view(value.shape)),
        lambda: (f"as {dtype}", value.to(dtype)), lambda: ("empty", value.flatten()[:0]), lambda: ("scalar", value.flatten()[0]),
        lambda: ("flat", value.flatten()), lambda: ("halved", value.flatten()[: value.numel() // 2]),
        lambda: ("doubled", torch.cat([value.flatten()] * 2)), lambda: ("another axis", value[None]),
        lambda: ("huge", (value.float() + 1) * 1e38), lambda: ("zero", value * 0), lambda: ("negative", -abs(value) - 1),
        lambda: ("missing", None), lambda: ("renamed", ...),
    ))()
    tensors.pop(name)
    tensors |= {} if odd is None else {"odd/" + name: value} if odd is ... else {name: odd.contiguous()}
    save_file(tensors, path, metadata)
    return f"{path}: {name} {what}"
