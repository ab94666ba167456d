"""Packets for tests: good ones, and tar archives that no writer of ours would make."""

import bz2
import io
import tarfile
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal

from workers.replication.packet.archive import Limits, PacketReader, PacketWriter

Form = Literal[0, 1, 2]  # as tarfile calls its formats

MODIFIED = datetime(2026, 5, 11, 21, 14, 26, tzinfo=UTC)


def packet(members: Iterable[tuple[str, bytes]]) -> bytes:
    target = io.BytesIO()
    with PacketWriter(target, modified=MODIFIED) as writer:
        for name, data in members:
            writer.add(name, data)
    return target.getvalue()


def entry(name: str, data: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member with any header: `type`, `linkname`, `size` (a lie, if it is not that of the data) …"""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def tar(*entries: tuple[tarfile.TarInfo, bytes], form: Form = tarfile.USTAR_FORMAT, end: bytes = bytes(1024)) -> bytes:
    parts = []
    for info, data in entries:
        parts += [info.tobuf(form), data, bytes(-len(data) % 512)]
    return bz2.compress(b"".join(parts) + end)


def cut(data: bytes, size: int = 4096) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data: bytes, limits: Limits | None = None) -> list[tuple[str, bytes]]:
    """All members of a packet that is called P."""
    with PacketReader(cut(data), limits=limits, packet="P") as reader:
        return [(member.name, member.read()) for member in reader]


def threads_of_bzip2() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("bzip2", "bunzip2"))]
