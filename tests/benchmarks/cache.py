"""The caches: never stale while readers and writers race, one load after an invalidation, and how fast hits are.

Two writers commit to PostgreSQL and invalidate, as the worker does; twelve readers in four processes read entities and
a page that shows both, through the cache, and compare with the last write that was invalidated before they asked.
`naive_stale_reads` is the same race with DELETE and SET instead of leases: the check can fail.
"""

import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import psycopg
import redis

import ops.stack
from events.breaker import Breaker
from events.connections import open_client
from tests.benchmarks.harness import report, say, servers
from workers.caches import tags
from workers.caches.adapters import PostgresEntities
from workers.caches.keys import EntityKey
from workers.caches.service import EntityCache
from workers.leased.adapters import RedisLeased
from workers.leased.core import Loaded
from workers.leased.service import ReadThrough, Times
from workers.middleware import make_pool

PROCESSES, THREADS = 4, 3
WRITES = 600
HOT_ROUNDS = 5
HIT_ENTITIES, HIT_BATCH, HIT_SECONDS = 2_000, 100, 5.0
PAGE = "page"

Context = multiprocessing.get_context("spawn")


@dataclass
class Shared:
    """What the processes share. `told`: by entity, the last write whose invalidation is over."""

    database_url: str
    redis_url: str
    mbids: list[str]
    leased: bool
    told: Any = field(default_factory=lambda: Context.Array("i", 2))
    stop: Any = field(default_factory=Context.Event)
    reads: Any = field(default_factory=lambda: Context.Value("i", 0))
    stale: Any = field(default_factory=lambda: Context.Value("i", 0))
    loads: Any = field(default_factory=lambda: Context.Value("i", 0))


class Caches:
    """What one process reads and forgets with."""

    def __init__(self, shared: Shared) -> None:
        self.client = open_client(shared.redis_url, Breaker("redis"))
        self.pool = make_pool(shared.database_url, size=THREADS)
        self.load = PostgresEntities(self.pool.connection).load
        self.entries = RedisLeased(self.client, "MB:entity")
        self.pages = RedisLeased(self.client, "MB:search")
        self.entities = EntityCache(ReadThrough(self.entries, "entity"))
        self.page = ReadThrough(self.pages, "search")
        self.keys = [EntityKey("artist", mbid) for mbid in shared.mbids]

    def close(self) -> None:
        self.pool.close()
        self.client.close()

    def forget(self, key: EntityKey) -> None:
        self.entities.invalidate([key])
        self.pages.forget(tags=[key.name])

    def load_page(self) -> Loaded:
        bodies = [self.load(*key) for key in self.keys]
        return Loaded(
            b"[" + b",".join(body for body in bodies if isinstance(body, bytes)) + b"]", tags.shown(self.keys)
        )


class Naive(Caches):
    """DELETE and SET: what one writes first."""

    def entity(self, key: EntityKey) -> bytes:
        name = f"naive:{key.name}"
        found = self.client.get(name)
        if isinstance(found, bytes):
            return found
        loaded = self.load(*key)
        assert isinstance(loaded, bytes)
        self.client.set(name, loaded, ex=3600)
        return loaded

    def forget(self, key: EntityKey) -> None:
        self.client.delete(f"naive:{key.name}")


def main() -> None:
    with servers() as stack:
        ops.stack.ensure_musicbrainz(stack, progress=say)
        url = stack.database_url()
        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT gid::text FROM musicbrainz.artist ORDER BY id LIMIT 2").fetchall()
        mbids = [gid for (gid,) in rows]
        say(f"{PROCESSES * THREADS} readers in {PROCESSES} processes and two writers, {WRITES} writes.")
        leased = race(Shared(url, stack.redis_url(), mbids, leased=True))
        say("The same race with DELETE and SET.")
        naive = race(Shared(url, stack.redis_url(), mbids, leased=False))
        say("A hot key is invalidated.")
        loads = [hot(Shared(url, stack.redis_url(), mbids, leased=True)) for _ in range(HOT_ROUNDS)]
        say("Hits in one process.")
        hits = hits_per_second(Shared(url, stack.redis_url(), mbids, leased=True))
    report(
        {
            "stale_reads": leased["stale"],
            "writes": WRITES,
            "readers": PROCESSES * THREADS,
            "reads": leased["reads"],
            "loads": leased["loads"],
            "loads_after_invalidate": max(loads),
            "hits_per_s": hits,
            "naive_stale_reads": naive["stale"],
            "naive_reads": naive["reads"],
        }
    )


def race(shared: Shared) -> dict[str, int]:
    processes = start(shared, read_and_compare)
    writers = [threading.Thread(target=write, args=(shared, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    end(shared, processes)
    return {name: getattr(shared, name).value for name in ("reads", "stale", "loads")}


def start(shared: Shared, work: Callable[[Shared], None]) -> list[Any]:
    """All processes have read once when this returns."""
    processes = [Context.Process(target=work, args=(shared,)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    while shared.reads.value < PROCESSES * THREADS:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.05)
    return processes


def end(shared: Shared, processes: list[Any]) -> None:
    shared.stop.set()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0


def write(shared: Shared, which: int) -> None:
    caches = Caches(shared) if shared.leased else Naive(shared)
    key = caches.keys[which]
    with psycopg.connect(shared.database_url, autocommit=True) as connection:
        for number in range(1, WRITES // 2 + 1):
            connection.execute(
                "UPDATE musicbrainz.artist SET comment = %s WHERE gid = %s", (f"write {number}", key.mbid)
            )
            caches.forget(key)
            shared.told[which] = number
            time.sleep(random.uniform(0, 0.006))
    caches.close()


def read_and_compare(shared: Shared) -> None:
    caches = Caches(shared) if shared.leased else Naive(shared)

    def load(entity_type: str, mbid: str) -> Any:
        count(shared.loads)
        return caches.load(entity_type, mbid)

    def load_page() -> Loaded:
        count(shared.loads)
        return caches.load_page()

    def read() -> None:
        while not shared.stop.is_set():
            which = random.randrange(2)
            least = [shared.told[0], shared.told[1]]
            if isinstance(caches, Naive):
                seen = {which: caches.entity(caches.keys[which])}
            elif random.random() < 0.5:
                body = caches.entities.get_or_load(*caches.keys[which], load)
                seen = {which: body or b"{}"}
            else:
                page = orjson.loads(caches.page.get_or_load(PAGE, load_page) or b"")
                seen = {number: orjson.dumps(document) for number, document in enumerate(page)}
            count(shared.reads)
            for number, body in seen.items():
                if number_of(body) < least[number]:
                    count(shared.stale)

    run_threads(read)
    caches.close()


def number_of(document: bytes) -> int:
    comment = orjson.loads(document)["comment"]
    return int(comment.removeprefix("write ")) if comment.startswith("write ") else 0


def hot(shared: Shared) -> int:
    """Loads in the second after an invalidation of what twelve readers read all the time."""
    processes = start(shared, read_hot)
    caches = Caches(shared)
    before = shared.loads.value
    caches.forget(caches.keys[0])
    time.sleep(1)
    loads = shared.loads.value - before
    caches.close()
    end(shared, processes)
    return int(loads)


def read_hot(shared: Shared) -> None:
    caches = Caches(shared)

    def load(entity_type: str, mbid: str) -> Any:
        count(shared.loads)
        # As long as a page of MusicBrainz Server takes.
        time.sleep(0.05)
        return caches.load(entity_type, mbid)

    def read() -> None:
        while not shared.stop.is_set():
            caches.entities.get_or_load(*caches.keys[0], load)
            count(shared.reads)

    run_threads(read)
    caches.close()


def run_threads(work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def count(value: Any) -> None:
    with value.get_lock():
        value.value += 1


def hits_per_second(shared: Shared) -> float:
    """Entities a second from one process and thread, in batches, each of a real document."""
    with redis.Redis.from_url(shared.redis_url) as plain:
        plain.flushdb()
    caches = Caches(shared)
    with psycopg.connect(shared.database_url) as connection:
        rows = connection.execute("SELECT gid::text FROM musicbrainz.recording LIMIT %s", (HIT_ENTITIES,)).fetchall()
    mbids = [gid for (gid,) in rows]
    cache = EntityCache(ReadThrough(caches.entries, "entity", Times()))
    for mbid in mbids:
        cache.get_or_load("recording", mbid, caches.load)
    found, began = 0, time.perf_counter()
    while time.perf_counter() - began < HIT_SECONDS:
        batch = cache.get_many("recording", random.choices(mbids, k=HIT_BATCH))
        assert all(each is not None and each.known for each in batch)
        found += len(batch)
    seconds = time.perf_counter() - began
    caches.close()
    return found / seconds


if __name__ == "__main__":
    main()
