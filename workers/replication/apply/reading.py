"""Changes out of the lines of a packet's tables."""

from collections.abc import Iterable, Iterator
from sys import intern

from workers.replication.apply.core import Change, Operation
from workers.replication.packet.copytext import NULL, unescape
from workers.replication.packet.errors import PacketError

_OPERATIONS: dict[bytes, Operation] = {b"i": "i", b"u": "u", b"d": "d"}
# Which of old and new row an operation has.
_ROWS: dict[str, tuple[bool, bool]] = {"i": (False, True), "u": (True, True), "d": (True, False)}
_FIELDS = 8


def changes(blocks: Iterable[list[bytes]]) -> Iterator[list[Change]]:
    """The changes in the lines of `mbdump/pending_data`, as many at once as came together. Raises PacketError."""
    tables: dict[bytes, str] = {}
    for lines in blocks:
        found = []
        for line in lines:
            fields = line.split(b"\t")
            if len(fields) != _FIELDS:
                raise PacketError(f"a line of {len(fields)} fields, not {_FIELDS}: {line!r:.100}")
            seqid, name, op, xid, old, new, _ctid, _depth = fields
            table = tables.get(name)
            if table is None:
                table = tables[name] = _table(name)
            kind = operation(op)
            change = Change(
                number(seqid),
                number(xid),
                table,
                kind,
                None if old == NULL else unescape(old),
                None if new == NULL else unescape(new),
            )
            if (change.old is not None, change.new is not None) != _ROWS[kind]:
                raise PacketError(f"change {change.seqid} of {table} ({kind}) has not the rows that belong to it")
            found.append(change)
        yield found


def keys(blocks: Iterable[list[bytes]]) -> dict[str, tuple[str, ...]]:
    """The primary keys in the lines of `mbdump/pending_keys`, by table. Raises PacketError."""
    found: dict[str, tuple[str, ...]] = {}
    for lines in blocks:
        for line in lines:
            fields = line.split(b"\t")
            if len(fields) != 2 or not (fields[1].startswith(b"{") and fields[1].endswith(b"}")):
                raise PacketError(f"a line that is no table and key: {line!r:.100}")
            columns = unescape(fields[1][1:-1]).decode()
            found[_table(fields[0])] = tuple(each.strip('"') for each in columns.split(","))
    return found


def _table(name: bytes) -> str:
    try:
        return intern(unescape(name).decode())
    except UnicodeDecodeError:
        raise PacketError(f"the table name {name!r:.100} is not UTF-8") from None


def operation(field: bytes) -> Operation:
    """i, u or d. Raises PacketError."""
    found = _OPERATIONS.get(field)
    if found is None:
        raise PacketError(f"operation {field!r:.20} is none of i, u, d")
    return found


def number(field: bytes) -> int:
    """A sequence number or transaction id. Raises PacketError."""
    # int() takes more than COPY writes: blanks, underscores.
    if not field.isdigit() or len(field) > 19:
        raise PacketError(f"{field!r:.40} is no sequence number or transaction id")
    return int(field)
