"""Version 1 of a packet, written from the rows of version 2: `dbmirror_pending` and `dbmirror_pendingdata`.

Most rows have nothing to escape, and their columns are texts and numbers: what is special goes a longer way.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from workers.replication.export.core import ColumnKind, Shape
from workers.replication.packet import copytext, v1

# Both numbers are int4 in version 1.
LARGEST = 2**31 - 1
_NULL = rb"\N"
_PLAIN = {str, int, type(None), bool}
_Raw = dict[str, msgspec.Raw]


class Legacy:
    """Turns the lines of version 2, in their order, into those of version 1.

    `last_seqid` and `last_xid` are the highest that come: if they do not fit into version 1, it has numbers of its own.
    """

    def __init__(self, shapes: Mapping[str, Shape], *, last_seqid: int, last_xid: int) -> None:
        self._shapes = shapes
        self._names: dict[bytes, tuple[bytes, Shape]] = {}
        self._columns: dict[str, tuple[str, str]] = {}
        self._own_seqids = last_seqid > LARGEST
        self._own_xids = last_xid > LARGEST
        self._rows = 0
        self._xids = 0
        self._xid = b""

    def rows(self, lines: Iterable[list[bytes]]) -> tuple[list[bytes], list[bytes]]:
        """The lines of the two files for rows of pending_data, each as its fields."""
        pending: list[bytes] = []
        data: list[bytes] = []
        for seqid, table, op, xid, old, new, *_ in lines:
            name, shape = self._names.get(table) or self._named(table)
            if xid != self._xid:
                self._xid = xid
                self._xids += 1
            self._rows += 1
            told_seqid = b"%d" % self._rows if self._own_seqids else seqid
            told_xid = b"%d" % self._xids if self._own_xids else xid
            pending.append(b"%b\t%b\t%b\t%b\n" % (told_seqid, name, op, told_xid))
            if old != _NULL:
                data.append(b"%b\tt\t%b\n" % (told_seqid, self._fields(shape, old, shape.key)))
            if new != _NULL:
                data.append(b"%b\tf\t%b\n" % (told_seqid, self._fields(shape, new, ())))
        return pending, data

    def _named(self, table: bytes) -> tuple[bytes, Shape]:
        """The table's name as version 1 writes it; one that is not there any more has a key of all its columns."""
        plain = copytext.unescape(table).decode()
        name = ".".join(part if part.startswith('"') else f'"{part}"' for part in _parts(plain))
        found = self._names[table] = (copytext.escape(name.encode()), self._shapes.get(plain, Shape()))
        return found

    def _fields(self, shape: Shape, field: bytes, only: tuple[str, ...]) -> bytes:
        r"""A row as `"column"='value' `, escaped for COPY."""
        if shape.special:
            return _special(shape, field, only)
        escaped = b"\\" in field
        row: dict[str, Any] = orjson.loads(copytext.unescape(field) if escaped else field)
        if only:
            row = {column: row[column] for column in only if column in row}
        kinds = set(map(type, row.values()))
        if not kinds <= _PLAIN:
            return _special(shape, field, only)
        if bool in kinds:
            row = {column: "t" if value is True else "f" if value is False else value for column, value in row.items()}
        if escaped or b"'" in field:
            row = {column: _doubled(value) if type(value) is str else value for column, value in row.items()}
        columns = self._columns
        try:
            texts = [
                columns[column][0] if value is None else f"{columns[column][1]}{value}' "
                for column, value in row.items()
            ]
        except KeyError:
            for column in row:
                columns[column] = (v1.encode({column: None}).decode(), f'"{column}"=\'')
            return self._fields(shape, field, only)
        data = "".join(texts).encode()
        return copytext.escape(data) if escaped else data


def _doubled(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _special(shape: Shape, field: bytes, only: tuple[str, ...]) -> bytes:
    raw = msgspec.json.decode(copytext.unescape(field), type=_Raw)
    row = {
        column: _value(shape.special.get(column), bytes(token))
        for column, token in raw.items()
        if not only or column in only
    }
    return copytext.escape(v1.encode({column: row[column] for column in only if column in row} if only else row))


def _value(kind: ColumnKind | None, token: bytes) -> bytes | None:
    """A value as COPY would write it, before escapes, from how JSON writes it: a number to the digit."""
    if token == b"null":
        return None
    if kind == "json":
        return token
    if token.startswith(b'"'):
        return _text(token)
    if token.startswith(b"["):
        return _array(token, of_json=kind == "json array")
    return {b"true": b"t", b"false": b"f"}.get(token, token)


def _array(token: bytes, *, of_json: bool) -> bytes:
    elements = []
    for raw in msgspec.json.decode(token, type=list[msgspec.Raw]):
        element = bytes(raw)
        if element.startswith(b"[") and not of_json:
            elements.append(_array(element, of_json=False))
        else:
            elements.append(_quoted(None if element == b"null" else element if of_json else _value(None, element)))
    return b"{" + b",".join(elements) + b"}"


def _quoted(element: bytes | None) -> bytes:
    if element is None:
        return b"NULL"
    return b'"' + element.replace(b"\\", rb"\\").replace(b'"', rb"\"") + b'"'


def _text(token: bytes) -> bytes:
    text: str = orjson.loads(token)
    return text.encode()


def _parts(name: str) -> list[str]:
    """Schema and table of a quoted and qualified name, each as it is quoted there."""
    parts, begun = [], ""
    for piece in name.split("."):
        begun = f"{begun}.{piece}" if begun else piece
        # A dot inside of quotes has an odd number of them before it.
        if begun.count('"') % 2 == 0:
            parts.append(begun)
            begun = ""
    return parts
