"""Entries in Redis. Every method is one round trip (a few for thousands of names), and raises StoreUnavailableError.

A store is one server: the scripts touch the keys of tags that they find in entries, which a cluster would not allow.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import zip_longest
from typing import Any, TypeVar

import redis

from events.errors import UsageError

from . import core
from .core import Found, Inspected, Lease, Loaded, Tag
from .service import StoreUnavailableError, Taken

# Names of one script: bounds how long everybody else waits.
CHUNK = 1_000
# Longer than any load whose result is stored: what it depends on must be seen to have been invalidated meanwhile.
TAG_SECONDS = 600

T = TypeVar("T")


class RedisLeased:
    """A store under a prefix (`MB:entity`): `<prefix>:<name>`, `<prefix>:lease:<name>`, `<prefix>:tag:<tag>` and
    `<prefix>:clock`. `lease_seconds` is the longest load whose result is stored.

    The client must not decode responses. It may repeat commands: each of ours may be run twice.
    """

    def __init__(self, client: "redis.Redis", prefix: str, *, lease_seconds: float = 10) -> None:
        self._client = client
        self._prefix = prefix
        self._clock = f"{prefix}:clock"
        self._tags = f"{prefix}:tag:"
        self._lease_ms = int(lease_seconds * 1000)

        def script(*names: str) -> Any:
            package = files("workers.leased")
            return client.register_script(b"".join(package.joinpath(f"{name}.lua").read_bytes() for name in names))

        self._read = script("epoch", "live", "read")
        self._lease = script("epoch", "evictions", "live", "lease")
        self._inspect = script("epoch", "inspect")
        self._store = script("epoch", "evictions", "store")
        self._renew = script("renew")
        self._forget = script("epoch", "forget")

    def read(self, names: Sequence[str]) -> list[Found | None]:
        found: list[Found | None] = []
        with told():
            for chunk in chunks(names):
                answer = self._read(keys=[self._clock, *map(self.entry, chunk)], args=[self._tags])
                # Redis ends an array at nothing: the rest was not there.
                found += map(_found, answer)
                found += [None] * (len(chunk) - len(answer))
        return found

    def lease(self, name: str, *, anew: bool = False) -> Taken:
        token = secrets.token_hex(8)
        with told():
            taken, epoch, number, entry = self._lease(
                keys=self._keys(name), args=[self._tags, token, self._lease_ms, secrets.token_hex(8), int(anew)]
            )
        return Taken(_found(entry), Lease(token, epoch.decode(), int(number)) if taken else None)

    def store(self, name: str, lease: Lease, loaded: Loaded, *, seconds: float, cost: float) -> bool:
        ms = max(1, int((seconds + loaded.stale_seconds) * 1000))
        entry = core.encode(lease, loaded, seconds=seconds, cost=cost)
        with told():
            return bool(
                self._store(
                    keys=self._keys(name),
                    args=[self._tags, lease.token, lease.epoch, lease.as_of, entry, ms, *loaded.tags],
                )
            )

    def renew(self, name: str, lease: Lease) -> bool:
        """Have the lease stand for its full length from now on. False when it is void."""
        with told():
            return bool(self._renew(keys=[self.lease_of(name)], args=[lease.token, self._lease_ms]))

    def give_back(self, name: str, lease: Lease) -> None:
        with told():
            self._store(keys=self._keys(name), args=[self._tags, lease.token, lease.epoch, lease.as_of, b"", 0])

    def forget(self, names: Sequence[str] = (), tags: Sequence[str] = ()) -> list[int]:
        were_there: list[int] = []
        with told():
            for chunk, some in zip_longest(chunks(names), chunks(tags), fillvalue=()):
                keys = [key for name in chunk for key in (self.entry(name), self.lease_of(name))]
                were_there += self._forget(keys=[self._clock, *keys], args=[self._tags, TAG_SECONDS * 1000, *some])
        return were_there

    def forget_all(self) -> None:
        """Have nothing that was stored until now count: a new epoch begins with the next lease."""
        with told():
            self._client.hdel(self._clock, "epoch", "number")

    def inspect(self, name: str) -> Inspected:
        """What there is of a name, for people; changes nothing."""
        with told():
            epoch, number, raw, left, lease_left, numbers = self._inspect(keys=self._keys(name), args=[self._tags])
        known = None if epoch is None else epoch.decode()
        entry = None if raw is None else core.decode(raw, left)
        as_of, tags, void = None, [], None
        if entry is not None:
            of, number_then, _ = raw.split(b" ", 2)
            as_of = int(number_then)
            tags = [Tag(tag, each and int(each)) for tag, each in zip(entry.tags, numbers, strict=True)]
            void = core.why_void(of.decode(), as_of, tags, known)
        seconds = lease_left / 1000 if lease_left > 0 else None
        return Inspected(known, int(number or 0), entry, as_of, tuple(tags), void, seconds)

    def entry(self, name: str) -> str:
        if name == "clock" or name.startswith(("lease:", "tag:")):
            raise UsageError(f"No entry may be named {name!r}: what the store keeps beside entries has such names.")
        return f"{self._prefix}:{name}"

    def lease_of(self, name: str) -> str:
        return f"{self._prefix}:lease:{name}"

    def _keys(self, name: str) -> list[str]:
        return [self._clock, self.entry(name), self.lease_of(name)]


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


@contextmanager
def told() -> Iterator[None]:
    """Whatever Redis has against it is one error to who uses a cache."""
    try:
        yield
    except redis.RedisError as error:
        raise StoreUnavailableError(
            f"The Redis of the caches does not answer as it should: {type(error).__name__}: {error}. "
            "Check that it runs and that REDIS_SERVER or the role's URL is right."
        ) from error


def _found(answer: Any) -> Found | None:
    return core.decode(answer[0], answer[1]) if answer else None
