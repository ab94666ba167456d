"""What there is in the caches, and how their Redis are doing. Looks only."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from ops import checks
from ops.private import described
from ops.settings import RedisRole
from ops.urls import hidden

if TYPE_CHECKING:
    from ops.wiring import Runtime

# Keys of one SCAN: bounds how long everybody else waits.
_COUNT = 1_000
# What has no value of its own: the clock of the tags, and that a refresh was asked for.
_OWN = frozenset({"clock", "asked"})


@dataclass(slots=True)
class Cache:
    """The keys of one cache, valid or not; a few may count twice while Redis makes room. `kinds`: entries by the first
    part of their name, as an entity's type. `problem`: why its Redis does not answer, else None."""

    name: str
    prefix: str
    entries: int = 0
    leases: int = 0
    tags: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """The Redis of some caches. Bytes; `most_bytes` 0: no bound. Hits, misses and evictions are of all its keys since
    it started."""

    caches: tuple[str, ...]
    address: str
    keys: int | None = None
    bytes: int | None = None
    most_bytes: int | None = None
    policy: str | None = None
    evicted: int | None = None
    hits: int | None = None
    misses: int | None = None
    problem: str | None = None


def gather(runtime: "Runtime", progress: Callable[[str], None]) -> tuple[list[Cache], list[Server]]:
    """Never fails because a Redis is away: that is told of it. `progress` hears what is being looked at."""
    caches, servers = [], []
    for url, found in _by_address(runtime).items():
        client = checks.probe_client(url)
        try:
            servers.append(_server(client, url, tuple(cache.name for cache in found)))
            for cache in found:
                _count(client, cache, progress)
                caches.append(cache)
        finally:
            client.close()
    return caches, servers


def _by_address(runtime: "Runtime") -> dict[str, list[Cache]]:
    found: dict[str, list[Cache]] = {}
    for role in (RedisRole.ENTITIES, RedisRole.SEARCH, RedisRole.STATISTICS):
        prefix = runtime.prefix(role)
        caches = found.setdefault(runtime.redis_url(role), [])
        caches.append(Cache(prefix.rpartition(":")[2], prefix))
        if role is RedisRole.SEARCH:
            caches.append(Cache("http", runtime.answers_prefix))
    return found


def _server(client: "redis.Redis", url: str, caches: tuple[str, ...]) -> Server:
    try:
        told: dict[str, Any] = {**client.info("memory"), **client.info("stats")}
        return Server(
            caches,
            hidden(url),
            int(client.dbsize()),
            told.get("used_memory"),
            told.get("maxmemory"),
            told.get("maxmemory_policy"),
            told.get("evicted_keys"),
            told.get("keyspace_hits"),
            told.get("keyspace_misses"),
        )
    except redis.RedisError as error:
        return Server(caches, hidden(url), problem=described(error))


def _count(client: "redis.Redis", cache: Cache, progress: Callable[[str], None]) -> None:
    seen = 0
    try:
        for name in _names(client, cache.prefix):
            seen += 1
            if seen % 10_000 == 0:
                progress(f"Counting the keys of the cache {cache.name}: {seen:,}")
            kind, colon, _ = name.partition(":")
            if colon and kind == "tag":
                cache.tags += 1
            elif colon and kind == "lease":
                cache.leases += 1
            elif name not in _OWN:
                cache.entries += 1
                cache.kinds[kind] = cache.kinds.get(kind, 0) + 1
    except redis.RedisError as error:
        cache.problem = described(error)


def _names(client: "redis.Redis", prefix: str) -> Iterator[str]:
    for key in client.scan_iter(match=f"{prefix}:*", count=_COUNT):
        yield key[len(prefix) + 1 :].decode(errors="replace")
