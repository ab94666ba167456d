"""Files that are written once, in large pieces, and hashed meanwhile."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from workers.replication.export.core import File


class Spooled:
    """A file, which is closed when everything is in it; a packet may be written to it as well as lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("wb")
        self._digest = sha256()
        self.size = 0

    def write(self, data: "bytes | memoryview") -> int:
        self._digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def lines(self, lines: Iterable[bytes]) -> None:
        self.write(b"".join(lines))

    def close(self) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def same(file: File, path: Path) -> bool:
    """Whether a file is there and has these bytes."""
    try:
        if path.stat().st_size != file.size:
            return False
        digest = sha256()
        with path.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == file.sha256
