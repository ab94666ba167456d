"""The tar archive in a packet: written as MusicBrainz's readers expect it, read as if an enemy had written it."""

import tarfile
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from workers.replication.packet import bzip2, names
from workers.replication.packet.errors import PacketError

LINE_BYTES = 8 << 20
"""The longest line, unless told otherwise: a row of COPY text, of which a change has an old and a new one in JSON."""

_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
_RANK = {name: rank for rank, name in enumerate(names.ORDER)}
_TABLES = frozenset(names.TABLES_V2 + names.TABLES_V1)


class Limits(NamedTuple):
    """What a packet may hold, in bytes of its unpacked archive; more is refused before it is kept anywhere."""

    total_bytes: int = 16 << 30
    member_bytes: int = 8 << 30
    small_bytes: int = 1 << 20  # of a known member that is no table
    members: int = 100
    line_bytes: int = LINE_BYTES  # of a table's text: two JSON rows, escaped


class PacketWriter:
    """Writes a packet to `target`, which stays open: plain ustar, every member owned by root and as old as `modified`.

    The same calls write the same bytes. As a context manager, it closes, or after an error stops without an end.
    """

    def __init__(self, target: BinaryIO, *, modified: datetime, threads: int = 2) -> None:
        self._stream = bzip2.Compressor(target, threads=threads)
        self._modified = int(modified.timestamp())
        self._written = 0

    def add(self, name: str, data: bytes) -> None:
        """A member that is in memory."""
        self._header(name, len(data))
        self._write(data)
        self._pad()

    def add_file(self, name: str, path: Path) -> None:
        """A member that is a file; it must not change meanwhile. Raises PacketError when it does."""
        with path.open("rb") as file:
            size = path.stat().st_size
            self._header(name, size)
            left = size
            while piece := file.read(_PIECE):
                left -= len(piece)
                self._write(piece)
            if left:
                raise PacketError(f"{path} had {size:,} bytes, now {size - left:,}", member=name)
        self._pad()

    def close(self) -> None:
        """Write the end of the archive."""
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self._written % tarfile.RECORDSIZE))
        self._stream.close()

    def _header(self, name: str, size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        info.mtime = self._modified
        info.mode = 0o644
        info.uname = info.gname = "root"
        try:
            self._write(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        except ValueError as error:
            raise PacketError(f"does not fit a tar header: {error}", member=name) from error

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._written += len(data)

    def _pad(self) -> None:
        self._write(bytes(-self._written % _BLOCK))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._stream.abort()


class Member(NamedTuple):
    """A file in a packet. `blocks` can be read once, and only until the next member is asked for."""

    name: str
    size: int
    blocks: Iterator[bytes]
    packet: str | None = None

    def read(self) -> bytes:
        """All of it: for small members."""
        return b"".join(self.blocks)

    def lines(self, *, limit: int = LINE_BYTES) -> Iterator[list[bytes]]:
        """Like `lines`, with errors that name packet and member."""
        try:
            yield from lines(self.blocks, limit=limit)
        except PacketError as error:
            raise error.within(self.packet, self.name) from error.__cause__


class PacketReader:
    """The members of a packet, in the order of the stream; `packet` names it in errors.

    Iterate it once, to the end: only then is the packet known to be whole. Close it when stopping before.
    Raises PacketError for all that is not a sequence of plain files with relative names, each once, the known ones in
    their order (`names.ORDER`), within the limits, whole, and with nothing behind.
    """

    def __init__(
        self, chunks: Iterable[bytes], *, limits: Limits | None = None, threads: int = 2, packet: str | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._packet = packet
        self._pieces = bzip2.decompressed(chunks, threads=threads, limit=self._limits.total_bytes)
        self._rest = b""
        self._left = 0  # bytes of the present member that nobody has read
        self._members = self._walk()

    def __iter__(self) -> Iterator[Member]:
        return self._members

    def close(self) -> None:
        """Stop; needed only where the iteration did not come to its end."""
        self._members.close()
        self._pieces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _walk(self) -> Generator[Member, None, None]:
        seen: list[str] = []
        try:
            while (header := self._exactly(_BLOCK)) != bytes(_BLOCK):
                info = self._entry(header, seen)
                seen.append(info.name)
                self._left = info.size
                yield Member(info.name, info.size, self._body(info.name, len(seen), seen), self._packet)
                for _ in self._body(info.name, len(seen), seen):
                    pass
                self._exactly(-info.size % _BLOCK)
            if self._exactly(_BLOCK) != bytes(_BLOCK):
                raise PacketError("its archive goes on after its end")
            while piece := self._piece(_PIECE):
                if piece.strip(b"\0"):
                    raise PacketError("has something behind the end of its archive")
        except PacketError as error:
            raise error.within(self._packet) from error.__cause__
        finally:
            self._pieces.close()

    def _body(self, name: str, number: int, seen: list[str]) -> Iterator[bytes]:
        # An iterator that outlived its member must not take bytes from the next one.
        while len(seen) == number and self._left:
            try:
                piece = self._piece(self._left)
                if not piece:
                    raise PacketError("is cut short")
            except PacketError as error:
                raise error.within(self._packet, name) from error.__cause__
            self._left -= len(piece)
            yield piece

    def _entry(self, header: bytes, seen: list[str]) -> tarfile.TarInfo:
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise PacketError(f"bad tar header after {seen[-1] if seen else 'the start'}: {error}") from error
        wrong = self._objection(info, seen)
        if wrong:
            raise PacketError(wrong, member=info.name if info.name.isprintable() else ascii(info.name))
        return info

    def _objection(self, info: tarfile.TarInfo, seen: list[str]) -> str | None:
        name, size = info.name, info.size
        small = name in _RANK and name not in _TABLES
        most = self._limits.small_bytes if small else self._limits.member_bytes
        late = next((other for other in seen if _RANK.get(other, -1) > _RANK.get(name, len(_RANK))), None)
        objections = [
            # Links, directories, devices, and the extensions of pax and GNU, which no short name needs.
            (info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE), f"is not a plain file (type {info.type!r})"),
            (len(name) > 255 or not name.isprintable() or "\\" in name, "is no name for a member"),
            (not {"", ".", ".."}.isdisjoint(name.split("/")), "is no plain relative name"),
            (name in seen, "is there twice"),
            (len(seen) >= self._limits.members, f"is one member too many: {self._limits.members} are allowed"),
            (late is not None, f"comes after {late}, and must come before"),
            (not 0 <= size <= most, f"has {size:,} bytes: {most:,} are allowed"),
        ]
        return next((text for wrong, text in objections if wrong), None)

    def _exactly(self, size: int) -> bytes:
        """The next `size` bytes, few. Raises PacketError where the stream ends before."""
        data = b""
        while len(data) < size:
            piece = self._piece(size - len(data))
            if not piece:
                raise PacketError("its archive is cut short")
            data += piece
        return data

    def _piece(self, most: int) -> bytes:
        """The next bytes, at most so many; empty at the end of the stream."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece


def lines(blocks: Iterable[bytes], *, limit: int = LINE_BYTES) -> Iterator[list[bytes]]:
    """Whole lines, without their newlines, in lists of as many as came together.

    Raises PacketError for a line of more than `limit` bytes, and where the last line has no newline.
    """
    begun: list[bytes] = []  # of one line, joined once: a long line must not be copied for each block
    length = 0
    for block in blocks:
        first, *more = block.split(b"\n")
        begun.append(first)
        length += len(first)
        if length > limit or (len(block) > limit and max(map(len, more), default=0) > limit):
            raise PacketError(f"a line of more than {limit:,} bytes (REPLICATION_ROW_MB)")
        if more:
            last = more.pop()
            yield [b"".join(begun), *more]
            begun, length = [last], len(last)
    if length:
        raise PacketError("its last line has no end")
