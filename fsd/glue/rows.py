"""The rows of a data file. The ending of its name tells the format: .csv, .jsonl, and tab-separated for all others.

Tab-separated: a line is a row, a tab ends a field, quote characters are text, as in GLUE. CSV: commas and quotes by the rules
of Python's csv module. JSON lines: an object on each line. All are UTF-8; a byte-order mark and CRLF line ends are accepted.
"""

import csv
import io
import json

from fsd.system.errors import InputError

csv.field_size_limit(2**31 - 1)  # its own limit is below the length of some texts


def read_rows(path, wanted, bare_columns=()):
    """The column names, and (line number, fields) of each row.

    Args:
        wanted: the columns to take out of JSON lines, whose fields have no order.
        bare_columns: the column names of a tab-separated file without a header.

    Raises:
        InputError, with file and line: the file cannot be read or is not in its format, or a JSON line lacks a column.
    """
    text = _read_text(path)
    if path.suffix == ".jsonl":
        return tuple(wanted), _json_rows(path, text, wanted)
    if path.suffix == ".csv":
        rows = [(number, fields) for number, fields, _ in _csv_records(path, text)]
    else:
        rows = [(number, line.split("\t")) for number, line in enumerate(_lines(text), 1)]
    if bare_columns:
        return bare_columns, rows
    (number, header), *rows = rows
    if twice := [name for name in wanted if header.count(name) > 1]:
        raise InputError(f"{path}:{number}: the column {twice[0]!r} is there twice; remove one")
    return tuple(header), rows


def raw_records(path, has_header):
    """(header, records) of a file that :func:`read_rows` reads: pieces of it as bytes, without their line ends.

    The header is an empty list if there is none.
    """
    if path.suffix == ".csv":
        text = path.read_bytes().decode("utf-8-sig")
        records = [raw.rstrip("\r\n").encode() for _, _, raw in _csv_records(path, text)]
    else:
        records = [line.encode() for line in _lines(path.read_bytes().decode())]
    split_at = int(has_header and path.suffix != ".jsonl")
    return records[:split_at], records[split_at:]


def _lines(text):
    """The lines of a text. A lone carriage return also ends one, as in the readers that gave the official row counts."""
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def _read_text(path):
    """The text of a UTF-8 file that is not empty."""
    if path.exists() and not path.is_file():  # reading a FIFO would block
        raise InputError(f"{path}: not a regular file; restore the file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read it ({error.strerror}); restore the file") from error
    if (at := content.find(b"\0")) >= 0:
        number = content.count(b"\n", 0, at) + 1
        raise InputError(f"{path}:{number}: a NUL byte; save the file as plain UTF-8 text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    if not text.strip():
        raise InputError(f"{path}:1: the file is empty; restore the file")
    return text


def _csv_records(path, text):
    """(number of its first line, fields, the record as it stands in the file) of each CSV record; empty lines are none."""
    lines = list(io.StringIO(text, newline=""))
    reader, read, records = csv.reader(lines, strict=True), 0, []
    try:
        for fields in reader:
            if fields:
                records.append((read + 1, fields, "".join(lines[read:reader.line_num])))
            read = reader.line_num
    except csv.Error as error:
        raise InputError(f"{path}:{read + 1}: not CSV ({error}); mend the row that starts here") from error
    return records


def _json_rows(path, text, wanted):
    """(line number, fields) of each JSON object."""
    rows = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not a JSON object on one line; mend the line")
        if missing := [name for name in wanted if name not in row]:
            raise InputError(f"{path}:{number}: no column {missing[0]!r}; is it the file of this task?")
        rows.append((number, [_field(row[name], f"{path}:{number}: {name!r}") for name in wanted]))
    return rows


def _field(value, where):
    """A JSON value as the text of a field: a text as it is, a number, true and false as JSON writes them."""
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, dict | list | None):
        raise InputError(f"{where} is neither a text nor a number; mend the line")
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only a \\u can write
        raise InputError(f"{where} has a broken \\u escape; mend the line") from None
    return text
