"""Changes out of the lines of a packet's tables."""

from collections.abc import Iterable, Iterator
from sys import intern

from workers.replication.apply.core import Change, Operation
from workers.replication.packet.copytext import NULL, unescape
from workers.replication.packet.errors import PacketError

_OPERATIONS: dict[bytes, Operation] = {b"i": "i", b"u": "u", b"d": "d"}
_TAB = b"\t"
_BACKSLASH = b"\\"
# Of a bigint.
_MOST = (1 << 63) - 1


def changes(blocks: Iterable[list[bytes]]) -> Iterator[list[Change]]:
    """The changes in the lines of `mbdump/pending_data`, as many at once as came together. Raises PacketError."""
    tables: dict[bytes, str] = {}
    for lines in blocks:
        found = []
        for line in lines:
            try:
                seqid, name, op, xid, old, new, _ctid, _depth = line.split(_TAB)
            except ValueError:
                raise PacketError(f"a line of {line.count(_TAB) + 1} fields, not 8: {line!r:.100}") from None
            table = tables.get(name)
            if table is None:
                table = tables[name] = _table(name)
            kind = _OPERATIONS.get(op) or operation(op)
            if (old == NULL) is not (kind == "i") or (new == NULL) is not (kind == "d"):
                raise PacketError(f"change {seqid!r:.30} of {table} ({kind}) has not the rows that belong to it")
            # Most rows have nothing to unescape.
            found.append(
                Change(
                    number(seqid),
                    number(xid),
                    table,
                    kind,
                    None if kind == "i" else old if _BACKSLASH not in old else unescape(old),
                    None if kind == "d" else new if _BACKSLASH not in new else unescape(new),
                )
            )
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
    if not field.isdigit() or len(field) > 19 or (value := int(field)) > _MOST:
        raise PacketError(f"{field!r:.40} is no sequence number or transaction id")
    return value
