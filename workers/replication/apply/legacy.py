"""Changes out of the two tables of a version 1 packet: first what happened, then the rows by number."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise
from sys import intern

import orjson

from workers.replication.apply.core import Change, Operation
from workers.replication.apply.reading import number, operation
from workers.replication.packet import v1
from workers.replication.packet.copytext import unescape
from workers.replication.packet.errors import PacketError

# Which rows of IsKey an operation has: the old key (t), the new row (f).
_NEEDED = {"i": {b"f"}, "u": {b"t", b"f"}, "d": {b"t"}}


class LegacyReader:
    """Keeps of each change what the first table tells, in a few bytes, until the second one has its rows."""

    def __init__(self) -> None:
        self._seqids = array("q")
        self._xids = array("q")
        self._kinds = array("l")
        # What changed how: a number for each pair of table and operation.
        self._names: list[tuple[str, Operation]] = []

    def pending(self, blocks: Iterable[list[bytes]]) -> None:
        """Read `mbdump/dbmirror_pending`. Raises PacketError."""
        kinds: dict[tuple[bytes, bytes], int] = {}
        for lines in blocks:
            for line in lines:
                fields = line.split(b"\t")
                if len(fields) != 4:
                    raise PacketError(f"a line of {len(fields)} fields, not 4: {line!r:.100}")
                seqid, name, op, xid = fields
                kind = kinds.get((name, op))
                if kind is None:
                    kind = kinds[name, op] = len(self._names)
                    self._names.append((_table(name), operation(op)))
                self._seqids.append(number(seqid))
                # Of four bytes, so that it may be negative.
                self._xids.append(number(xid.removeprefix(b"-")) * (-1 if xid.startswith(b"-") else 1))
                self._kinds.append(kind)

    def changes(self, blocks: Iterable[list[bytes]]) -> Iterator[list[Change]]:
        """Read `mbdump/dbmirror_pendingdata`; each change when it has all of its rows. Raises PacketError."""
        place = {seqid: index for index, seqid in enumerate(self._seqids)} if not self._ascending() else None
        partial: dict[int, dict[bytes, bytes]] = {}
        told = 0
        for lines in blocks:
            found = []
            for line in lines:
                fields = line.split(b"\t")
                if len(fields) != 3 or fields[1] not in (b"t", b"f"):
                    raise PacketError(f"a line that is no row of a change: {line!r:.100}")
                seqid, is_key, data = number(fields[0]), fields[1], fields[2]
                rows = partial.setdefault(seqid, {})
                if is_key in rows:
                    raise PacketError(f"change {seqid} has two rows of one kind")
                rows[is_key] = _json(v1.decode(unescape(data)))
                index = self._find(seqid) if place is None else place.get(seqid, -1)
                if index < 0:
                    raise PacketError(f"a row of change {seqid}, which is not in dbmirror_pending")
                table, op = self._names[self._kinds[index]]
                if rows.keys() == _NEEDED[op]:
                    found.append(Change(seqid, self._xids[index], table, op, rows.get(b"t"), rows.get(b"f")))
                    del partial[seqid]
            told += len(found)
            yield found
        if partial or told != len(self._seqids):
            raise PacketError(f"{len(self._seqids) - told} changes have not all of their rows")

    def _ascending(self) -> bool:
        return all(one < other for one, other in pairwise(self._seqids))

    def _find(self, seqid: int) -> int:
        index = bisect_left(self._seqids, seqid)
        return index if index < len(self._seqids) and self._seqids[index] == seqid else -1


def _table(name: bytes) -> str:
    """`"musicbrainz"."artist"`, always quoted here, as `quote_ident` writes it: only quoted where it must be."""
    try:
        text = unescape(name).decode()
    except UnicodeDecodeError:
        raise PacketError(f"the table name {name!r:.100} is not UTF-8") from None
    parts = [part.strip('"') for part in text.split(".")]
    return intern(".".join(part if part.isidentifier() and part.islower() else f'"{part}"' for part in parts))


def _json(row: dict[str, bytes | None]) -> bytes:
    try:
        return orjson.dumps({name: None if value is None else value.decode() for name, value in row.items()})
    except UnicodeDecodeError:
        raise PacketError("a value is not UTF-8") from None
