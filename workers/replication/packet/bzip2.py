"""bzip2, one stream."""

import bz2
from collections.abc import Generator, Iterable
from typing import BinaryIO, Self

from workers.replication.packet.errors import PacketError

# What is handed on at a time, at most.
PIECE = 1 << 20


class Compressor:
    """Writes one bzip2 stream to `target`, which stays open."""

    def __init__(self, target: BinaryIO, *, threads: int = 2) -> None:  # noqa: ARG002
        self._target = target
        self._serial = bz2.BZ2Compressor(9)

    def write(self, data: bytes) -> None:
        """Take `data`; blocks while too much is underway."""
        self._target.write(self._serial.compress(data))

    def close(self) -> None:
        """Write what is left and the end of the stream."""
        self._target.write(self._serial.flush())

    def abort(self) -> None:
        """Stop; the stream stays without an end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def decompressed(chunks: Iterable[bytes], *, threads: int = 2, limit: int) -> Generator[bytes, None, None]:  # noqa: ARG001
    """What `chunks` of a bzip2 file hold, in pieces of at most PIECE bytes.

    Raises PacketError where the file is no bzip2 file, is damaged, cut short, or followed by anything, and when it
    holds more than `limit` bytes.
    """
    serial = bz2.BZ2Decompressor()
    total = 0
    try:
        for chunk in chunks:
            data = chunk
            while data or not (serial.eof or serial.needs_input):
                piece = serial.decompress(data, PIECE)
                data = b""
                total += len(piece)
                if total > limit:
                    raise PacketError(f"holds more than {limit:,} bytes: raise the limit if it is meant to")
                if piece:
                    yield piece
    except (OSError, EOFError) as error:
        raise PacketError(f"is no sound bzip2 file ({error}): fetch it again") from error
    if not serial.eof or serial.unused_data:
        raise PacketError("is cut short, or has bytes after its end: fetch it again")
