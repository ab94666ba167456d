"""The folder where packets lie from their download until they are applied."""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path

from events.errors import UsageError
from workers.replication.packet import names
from workers.replication.sync.core import Begun


class Spool:
    """One process at a time. Beside each file is a note of where it is from: of another feed nothing is taken."""

    def __init__(self, folder: Path, base: str) -> None:
        self._folder = folder
        self._base = base
        self._lock = -1

    def open(self) -> None:
        """Make the folder, and be its only user until `close`. Raises UsageError."""
        if self._lock >= 0:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UsageError(f"REPLICATION_SPOOL: {self._folder} cannot be used: {error.strerror}.") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise UsageError(
                f"Another process uses the folder {self._folder}. Give each mirror its own REPLICATION_SPOOL."
            ) from None
        self._lock = lock

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def path(self, name: str) -> Path:
        return self._folder / name

    def part(self, name: str) -> Path:
        return self._folder / f"{name}.part"

    def has(self, name: str) -> bool:
        """Whether all of it is here, from this feed."""
        return self.path(name).exists() and self._noted(name) is not None

    def begun(self, name: str) -> Begun:
        """What is here of a file that did not come whole."""
        noted = self._noted(name)
        part = self.part(name)
        return noted if noted is not None and part.exists() else Begun()

    def note(self, name: str, etag: str | None, total: int | None) -> None:
        """Of the part that is being written."""
        text = json.dumps({"base": self._base, "etag": etag, "total": total})
        self._note(name).write_text(text, encoding="utf-8")

    def finish(self, name: str) -> Path:
        """The part is all of it."""
        return self.part(name).rename(self.path(name))

    def drop(self, name: str) -> None:
        for path in (self.path(name), self.part(name), self._note(name)):
            with suppress(FileNotFoundError):
                path.unlink()

    def drop_packet(self, number: int) -> None:
        """Both versions, with their signatures."""
        for version in (1, 2):
            name = names.packet_name(number, version)
            self.drop(name)
            self.drop(names.signature_name(name))

    def tidy(self, sequence: int) -> None:
        """Drop what was applied, and what is far from it: files of an earlier life."""
        for path in self._folder.glob("replication-*"):
            found = names.parse(path.name.partition(".tar.bz2")[0] + ".tar.bz2")
            if found is not None and not sequence < found[0] <= sequence + 100:
                self.drop_packet(found[0])

    def _note(self, name: str) -> Path:
        return self._folder / f"{name}.from"

    def _noted(self, name: str) -> Begun | None:
        try:
            found = json.loads(self._note(name).read_text(encoding="utf-8"))
            if found["base"] != self._base:
                return None
            part = self.part(name)
            return Begun(part.stat().st_size if part.exists() else 0, found["etag"], found["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
