"""What a packet holds, told without applying it. Any file may be given: what is no packet ends in a PacketError."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from pydantic import ValidationError

from schemas.replication import Manifest
from workers.replication.packet import names, v1
from workers.replication.packet.archive import Member, PacketReader, lines
from workers.replication.packet.copytext import decode
from workers.replication.packet.errors import PacketError

_DATA_COLUMNS = 8
_JSON = msgspec.json.Decoder(dict[str, msgspec.Raw])


class PacketRow(NamedTuple):
    """A change as its packet has it; `data` has the old and the new row, or in version 1 either of them."""

    seqid: int
    xid: int
    operation: str
    table: str
    data: dict[str, Any]

    def to_json(self) -> str:
        """By the names of version 1; numbers as the packet writes them, however large."""
        names_of_v1 = ("SeqId", "TransactionId", "Operation", "TableName", "Data")
        return msgspec.json.encode(dict(zip(names_of_v1, self, strict=True))).decode()


@dataclass(slots=True)
class Contents:
    """What was found: `version` is None where there are no changes of either, `manifest` whether ours was there."""

    members: list[tuple[str, int]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    version: int | None = None
    manifest: bool = False
    transactions: int = 0
    tables: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        return sum(each.total() for each in self.tables.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "sequence": _number(self.texts.get(names.REPLICATION_SEQUENCE)),
            "schema_sequence": _number(self.texts.get(names.SCHEMA_SEQUENCE)),
            "timestamp": self.texts.get(names.TIMESTAMP),
            "manifest": self.manifest,
            "members": [{"name": name, "size": size} for name, size in self.members],
            "transactions": self.transactions,
            "changes": self.changes,
            "tables": {table: dict(sorted(ops.items())) for table, ops in sorted(self.tables.items())},
        }


def contents(chunks: Iterable[bytes], *, packet: str) -> Contents:
    """Read all of a packet; its manifest, if it has one, is compared with the rest."""
    found = Contents()
    digests: dict[str, str] = {}
    manifest: Manifest | None = None
    xids: set[int] = set()
    with PacketReader(chunks, packet=packet) as reader:
        for member in reader:
            found.members.append((member.name, member.size))
            hashed = _Hashed(member)
            if member.name == names.MANIFEST:
                manifest = _manifest(hashed.read(), packet)
                found.manifest = True
            elif member.name in names.HEAD:
                found.texts[member.name] = hashed.read().decode(errors="replace").strip()
            elif member.name in (names.PENDING_DATA, names.DBMIRROR_PENDING):
                found.version = 2 if member.name == names.PENDING_DATA else 1
                read = _data if found.version == 2 else _pending
                for change in _told(read(hashed.blocks()), packet, member.name):
                    xids.add(change.xid)
                    found.tables.setdefault(change.table, Counter())[change.operation] += 1
            else:
                hashed.skip()
            digests[member.name] = hashed.digest
    found.transactions = len(xids)
    if manifest is not None:
        _compare(manifest, digests, found, packet)
    return found


def rows(chunks: Iterable[bytes], *, packet: str) -> Iterator[PacketRow]:
    """The changes in the order of the file."""
    heads: dict[int, PacketRow] = {}
    with PacketReader(chunks, packet=packet) as reader:
        for member in reader:
            if member.name == names.PENDING_DATA:
                yield from _told(_data(member.blocks), packet, member.name)
            elif member.name == names.DBMIRROR_PENDING:
                heads = {row.seqid: row for row in _told(_pending(member.blocks), packet, member.name)}
            elif member.name == names.DBMIRROR_PENDINGDATA:
                yield from _told(_pendingdata(member.blocks, heads), packet, member.name)


class _Hashed:
    """A member whose sum is taken as it is read."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._sum = hashlib.sha256()

    def blocks(self) -> Iterator[bytes]:
        for block in self._member.blocks:
            self._sum.update(block)
            yield block

    def read(self) -> bytes:
        return b"".join(self.blocks())

    def skip(self) -> None:
        for _ in self.blocks():
            pass

    @property
    def digest(self) -> str:
        return self._sum.hexdigest()


def _data(blocks: Iterable[bytes]) -> Iterator[PacketRow]:
    for values in _fields(blocks, _DATA_COLUMNS):
        seqid, table, operation, xid, old, new = values[:6]
        yield PacketRow(
            _integer(seqid, "seqid"),
            _integer(xid, "xid"),
            _operation(operation),
            _text(table, "table"),
            {"old": _row(old), "new": _row(new)},
        )


def _pending(blocks: Iterable[bytes]) -> Iterator[PacketRow]:
    for seqid, table, operation, xid in _fields(blocks, 4):
        yield PacketRow(
            _integer(seqid, "SeqId"), _integer(xid, "XID"), _operation(operation), _text(table, "TableName"), {}
        )


def _pendingdata(blocks: Iterable[bytes], heads: dict[int, PacketRow]) -> Iterator[PacketRow]:
    for seqid, is_key, data in _fields(blocks, 3):
        number = _integer(seqid, "SeqId")
        if number not in heads:
            raise PacketError(f"SeqId {number} is not in {names.DBMIRROR_PENDING}")
        try:
            row = {name: None if value is None else value.decode() for name, value in v1.decode(data or b"").items()}
        except UnicodeDecodeError:
            raise PacketError(f"a value of SeqId {number} is not UTF-8") from None
        yield heads[number]._replace(data={"key" if is_key == b"t" else "row": row})


def _fields(blocks: Iterable[bytes], number: int) -> Iterator[list[bytes | None]]:
    for some in lines(blocks):
        for line in some:
            values = decode(line)
            if len(values) != number:
                raise PacketError(f"a line has {len(values)} columns instead of {number}")
            yield values


def _integer(value: bytes | None, name: str) -> int:
    if value is None or not value.isdigit() or len(value) > 19:
        raise PacketError(f"{name} is no number: {_short(value)}")
    return int(value)


def _text(value: bytes | None, name: str) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError:
        raise PacketError(f"{name} is not UTF-8: {_short(value)}") from None


def _operation(value: bytes | None) -> str:
    if value not in (b"i", b"u", b"d"):
        raise PacketError(f"unknown operation {_short(value)}")
    return value.decode()


def _row(value: bytes | None) -> dict[str, msgspec.Raw] | None:
    try:
        return None if value is None else _JSON.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PacketError(f"a row is no JSON object ({error}): {_short(value)}") from None


def _number(text: str | None) -> int | None:
    """What is no number is shown to people as it is."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else None


def _short(value: bytes | None) -> str:
    return "nothing" if value is None else repr(value[:40])


def _told(changes: Iterator[PacketRow], packet: str, member: str) -> Iterator[PacketRow]:
    try:
        yield from changes
    except PacketError as error:
        raise error.within(packet, member) from error.__cause__


def _manifest(data: bytes, packet: str) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise PacketError(
            f"cannot be read: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}",
            packet=packet,
            member=names.MANIFEST,
        ) from None


def _compare(manifest: Manifest, digests: dict[str, str], found: Contents, packet: str) -> None:
    for name, digest in manifest.sha256.items():
        if name not in digests:
            raise PacketError(f"the manifest tells of {name!r}, which is missing", packet=packet)
        if digests[name] != digest:
            raise PacketError("is not what the manifest says: its sha256 is another", packet=packet, member=name)
    counted = {table: dict(ops) for table, ops in found.tables.items()}
    if found.version == 2 and counted != manifest.tables:
        raise PacketError("its changes are not those that the manifest counts", packet=packet)
