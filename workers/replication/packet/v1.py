r"""Rows as version 1 packets have them, in `dbmirror_pendingdata.Data`: `"id"='7' "comment"='' "area"= `.

Every column ends in a space; null has no quotes. Values are the text that PostgreSQL prints.
"""

import re
from collections.abc import Mapping

from workers.replication.packet.errors import PacketError

# Possessive, so that a hostile value costs its length only.
_COLUMN = re.compile(rb"""\"([^"]+)"=(?:'((?:[^'\\]++|\\[\\']|'')*+)')? """)
_ESCAPE = re.compile(rb"\\([\\'])|''")
_TOLD = 40  # bytes of what cannot be read


def encode(row: Mapping[str, bytes | None]) -> bytes:
    r"""The row, quotes and backslashes doubled: not every reader knows `\'`. Raises PacketError for a name with `"`."""
    columns = []
    for name, value in row.items():
        if not name or '"' in name:
            raise PacketError(f"the column name {name!r} cannot be written in version 1")
        text = b"" if value is None else b"'%b'" % value.replace(b"\\", rb"\\").replace(b"'", b"''")
        columns.append(b'"%b"=%b ' % (name.encode(), text))
    return b"".join(columns)


def decode(data: bytes) -> dict[str, bytes | None]:
    r"""The row; `\\`, `\'` and `''` are understood. Raises PacketError for all else, and for a column twice."""
    row: dict[str, bytes | None] = {}
    at = 0
    while match := _COLUMN.match(data, at):
        try:
            name = match[1].decode()
        except UnicodeDecodeError:
            raise PacketError(f"the column name {match[1]!r} is not UTF-8") from None
        if name in row:
            raise PacketError(f"the column {name!r} is there twice")
        value = match[2]
        if value is not None and (b"\\" in value or b"'" in value):
            value = _ESCAPE.sub(lambda escape: escape[1] or b"'", value)
        row[name] = value
        at = match.end()
    if at != len(data):
        raise PacketError(f"cannot be read as columns: {data[at : at + _TOLD]!r}")
    return row
