"""A packet's file as a source of changes: its members checked in their order, as they come."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from workers.replication.apply import reading
from workers.replication.apply.core import Change
from workers.replication.apply.legacy import LegacyReader
from workers.replication.apply.manifest import ManifestCheck
from workers.replication.packet import names
from workers.replication.packet.archive import Limits, Member, PacketReader, lines
from workers.replication.packet.errors import PacketError

_VERSION = 2
_PIECE = 1 << 18


class PacketSource:
    """Reads a packet of version 1 or 2 anew each time; `read` opens its bytes. What it is, is known after `head`."""

    def __init__(self, name: str, read: Callable[[], Iterable[bytes]], *, limits: Limits, threads: int = 2) -> None:
        self.name = name
        self._read = read
        self._limits = limits
        self._threads = threads
        self.texts = False
        self.number = -1
        self.schema_sequence = -1
        self._version = _VERSION
        self.keys: Mapping[str, tuple[str, ...]] = {}
        self.times: Sequence[bytes] = ()
        self.transactions: int | None = None

    def head(self) -> None:
        """Read what is before the tables. Raises PacketError."""
        with self._reader() as reader:
            for member in reader:
                if member.name in names.TABLES_V2 + names.TABLES_V1:
                    # Version 1 has no other sign.
                    self.texts = member.name in names.TABLES_V1
                    break
                self._note(member)
        if self.number < 0 or self.schema_sequence < 0:
            missing = names.REPLICATION_SEQUENCE if self.number < 0 else names.SCHEMA_SEQUENCE
            raise PacketError(f"has no {missing}", packet=self.name)

    def changes(self) -> Generator[list[Change], None, None]:
        """All changes, from the beginning. Raises PacketError, at the end too: until then nothing is certain."""
        if self._version != _VERSION:
            raise PacketError(f"is of dbmirror version {self._version}; {_VERSION} is known", packet=self.name)
        self.keys, self.transactions = {}, None
        times: list[bytes] = []
        legacy = LegacyReader()
        with self._reader() as reader:
            for member in self._checked(reader):
                try:
                    if member.name == names.PENDING_DATA:
                        yield from reading.changes(lines(member.blocks, limit=self._limits.line_bytes))
                    elif member.name == names.PENDING_KEYS:
                        self.keys = reading.keys(lines(member.blocks, limit=self._limits.line_bytes))
                    elif member.name == names.PENDING_TS:
                        times += member.blocks
                    elif member.name == names.DBMIRROR_PENDING:
                        legacy.pending(lines(member.blocks, limit=self._limits.line_bytes))
                    elif member.name == names.DBMIRROR_PENDINGDATA:
                        yield from legacy.changes(lines(member.blocks, limit=self._limits.line_bytes))
                except PacketError as error:
                    raise error.within(self.name, member.name) from error.__cause__
        self.times = times
        if times:
            self.transactions = sum(piece.count(b"\n") for piece in times)

    def _note(self, member: Member) -> None:
        if member.name == names.REPLICATION_SEQUENCE:
            self.number = self._number(member)
        elif member.name == names.SCHEMA_SEQUENCE:
            self.schema_sequence = self._number(member)
        elif member.name == names.DBMIRROR_VERSION:
            # Told later: of a newer schema it is the schema that somebody has to do something about.
            self._version = self._number(member)

    def _checked(self, reader: PacketReader) -> Iterator[Member]:
        check = ManifestCheck(self.name)
        for member in reader:
            yield from check.seen(member)
        check.finish(self.number, self.schema_sequence)

    def _number(self, member: Member) -> int:
        text = member.read().strip()
        if not text.isdigit() or len(text) > 10:
            raise PacketError(f"{text!r:.40} is no number", packet=self.name, member=member.name)
        return int(text)

    def _reader(self) -> PacketReader:
        return PacketReader(self._read(), limits=self._limits, threads=self._threads, packet=self.name)


def open_source(path: Path, *, limits: Limits | None = None, threads: int = 2) -> PacketSource:
    """The packet in a file, of either version, its head read. Raises PacketError, and OSError."""

    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    source = PacketSource(path.name, read, limits=limits or Limits(), threads=threads)
    source.head()
    return source
