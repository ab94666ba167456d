"""A packet store in a folder."""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from events.errors import MbeventsError, NotFoundError
from workers.replication.store.core import Pieces, Stored, checked, named

PIECE = 256 * 1024
# What a killed process left half written goes after this; nobody takes so long to write a packet.
LEFT_SECONDS = 86_400


class FileStore:
    """`folder` is made when the first file is put into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, path: Path) -> None:
        target = self._at(name)
        self._make_folder()
        self._sweep()
        # In the same folder, for only there a rename is one step; with a dot, so that it is no name of ours.
        part = self._folder / f".{name}.{secrets.token_hex(8)}.part"
        try:
            with self._told(f"keep {name}"):
                with path.open("rb") as source, part.open("xb") as copy:
                    wanted = _copied(source, copy)
                    copy.flush()
                    os.fsync(copy.fileno())
                with part.open("rb") as copy:
                    found = hashlib.file_digest(copy, "sha256").digest()
                if found != wanted:
                    raise MbeventsError(
                        f"{self._folder} does not keep what is written to it: {name} came back changed."
                    )
                part.replace(target)
                _sync_folder(self._folder)
        finally:
            part.unlink(missing_ok=True)

    def stat(self, name: str) -> Stored | None:
        path = self._at(name)
        with suppress(FileNotFoundError), self._told(f"look at {name}"):
            return _stored(name, path.stat())
        return None

    def list(self) -> list[Stored]:
        found = []
        with suppress(FileNotFoundError), self._told("list its files"), os.scandir(self._folder) as entries:
            for entry in entries:
                # One may go while we look.
                with suppress(FileNotFoundError):
                    if named(entry.name) is not None and entry.is_file():
                        found.append(_stored(entry.name, entry.stat()))
        return sorted(found)

    def read(self, name: str, start: int = 0, end: int | None = None) -> Pieces:
        pieces = _pieces(self._at(name), start, end)
        try:
            with self._told(f"read {name}"):
                next(pieces)
        except FileNotFoundError:
            raise NotFoundError(f"There is no {name} in the packet store {self._folder}.") from None
        return pieces

    def path(self, name: str) -> Path | None:
        path = self._at(name)
        return path if path.is_file() else None

    def url(self, name: str, *, seconds: int) -> str | None:  # noqa: ARG002 (the signature is the protocol's)
        checked(name)
        return None

    def delete(self, name: str) -> None:
        path = self._at(name)
        with suppress(FileNotFoundError), self._told(f"delete {name}"):
            path.unlink()
            _sync_folder(self._folder)

    def _at(self, name: str) -> Path:
        checked(name)
        return self._folder / name

    def _make_folder(self) -> None:
        if self._folder.is_dir():
            return
        with self._told("be made"):
            self._folder.mkdir(parents=True, exist_ok=True)
            _sync_folder(self._folder.parent)

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """What the disk refuses, but that a file is not there, as an error for people."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise MbeventsError(
                f"The packet store {self._folder} cannot {doing}: {error.strerror}. See that there is room, that it is "
                "a folder, and that this user may read and write there."
            ) from error

    def _sweep(self) -> None:
        before = time.time() - LEFT_SECONDS
        for part in self._folder.glob(".*.part"):
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < before:
                    part.unlink()


def _copied(source: BinaryIO, target: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while piece := source.read(PIECE):
        digest.update(piece)
        target.write(piece)
    return digest.digest()


def _stored(name: str, stat: os.stat_result) -> Stored:
    modified = datetime.fromtimestamp(stat.st_mtime, UTC)
    return Stored(name, stat.st_size, modified, f"{stat.st_size:x}-{stat.st_mtime_ns:x}")


def _pieces(path: Path, start: int, end: int | None) -> Pieces:
    with path.open("rb") as file:
        # The first is nothing, for `read`: it says that the file is open.
        yield b""
        file.seek(start)
        while piece := file.read(PIECE if end is None else max(0, min(PIECE, end - file.tell()))):
            yield piece


def _sync_folder(folder: Path) -> None:
    """A new name is only on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
