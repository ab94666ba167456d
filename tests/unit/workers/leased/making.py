"""A store in memory, under the same rules as the one in Redis."""

import secrets
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from workers.leased.core import Found, Lease, Loaded
from workers.leased.service import Taken


class _Entry(NamedTuple):
    as_of: int
    loaded: Loaded
    cost: float
    seconds: float


class FakeLeased:
    """Entries do not end by themselves: `left` is what every read tells of the time that is left (None: all of it)."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log = log if log is not None else []
        self.left: float | None = None
        self._epoch = secrets.token_hex(8)
        self._number = 0
        self._tags: dict[str, int] = {}
        self._entries: dict[str, _Entry] = {}
        self._leases: dict[str, str] = {}
        self._lock = threading.RLock()

    def read(self, names: Sequence[str]) -> list[Found | None]:
        with self._lock:
            return [self._found(name) for name in names]

    def lease(self, name: str, *, anew: bool = False) -> Taken:
        with self._lock:
            found = self._found(name)
            if (found is not None and not anew) or name in self._leases:
                return Taken(found, None)
            self._leases[name] = secrets.token_hex(8)
            return Taken(found, Lease(self._leases[name], self._epoch, self._number))

    def store(self, name: str, lease: Lease, loaded: Loaded, *, seconds: float, cost: float) -> bool:
        with self._lock:
            if self._leases.get(name) != lease.token:
                return False
            del self._leases[name]
            if any(self._tags.get(tag, 0) > lease.as_of for tag in loaded.tags):
                return False
            self.log.append(("store", name, seconds))
            self._entries[name] = _Entry(lease.as_of, loaded, cost, seconds)
            return True

    def give_back(self, name: str, lease: Lease) -> None:
        with self._lock:
            if self._leases.get(name) == lease.token:
                del self._leases[name]

    def forget(self, names: Sequence[str] = (), tags: Sequence[str] = ()) -> list[int]:
        with self._lock:
            self.log.append(("forget", list(names), set(tags)))
            were_there = []
            for name in names:
                were_there.append(int(self._found(name) is not None))
                self._entries.pop(name, None)
                self._leases.pop(name, None)
            for tag in tags:
                self._number += 1
                self._tags[tag] = self._number
            return were_there

    def _found(self, name: str) -> Found | None:
        entry = self._entries.get(name)
        if entry is None or any(self._tags.get(tag, 0) > entry.as_of for tag in entry.loaded.tags):
            return None
        left = entry.seconds if self.left is None else self.left
        return Found(entry.loaded.body, entry.loaded.tags, entry.cost, left)
