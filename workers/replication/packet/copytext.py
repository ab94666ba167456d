r"""COPY's text format, as COPY TO writes it: tabs between fields, `\N` for null, one line a row."""

import re
from collections.abc import Iterable

from workers.replication.packet.errors import PacketError

NULL = rb"\N"

_WRITTEN = {b"\b": rb"\b", b"\f": rb"\f", b"\n": rb"\n", b"\r": rb"\r", b"\t": rb"\t", b"\v": rb"\v"}
_CONTROL = re.compile(rb"[\b-\r]")
_READ = {escape: byte for byte, escape in _WRITTEN.items()} | {rb"\\": b"\\"}
_ESCAPE = re.compile(rb"\\.?", re.DOTALL)


def escape(value: bytes) -> bytes:
    """The field that stands for `value`."""
    value = value.replace(b"\\", rb"\\")
    # JSON has no control characters: one look instead of six replacements.
    return _CONTROL.sub(lambda match: _WRITTEN[match[0]], value) if _CONTROL.search(value) else value


def unescape(field: bytes) -> bytes:
    r"""The value of a field that is not null. Raises PacketError for escapes that COPY TO does not write, `\N` too."""
    if b"\\" not in field:
        return field
    # In JSON only the backslash itself is escaped; every run of backslashes starts at an escape, so counting is enough.
    if field.count(b"\\") == 2 * field.count(rb"\\"):
        return field.replace(rb"\\", b"\\")
    try:
        return _ESCAPE.sub(lambda match: _READ[match[0]], field)
    except KeyError as error:
        raise PacketError(f"invalid escape {error.args[0]!r} in COPY text") from None


def encode(values: Iterable[bytes | None]) -> bytes:
    """A line, with its newline."""
    return b"\t".join([NULL if value is None else escape(value) for value in values]) + b"\n"


def decode(line: bytes) -> list[bytes | None]:
    """The values of a line without its newline. Raises PacketError."""
    return [None if field == NULL else unescape(field) for field in line.split(b"\t")]
