"""Readers and a writer race for one entity."""

import threading
import time

from tests.unit.workers.caches.making import FakeTelemetry, entity_cache, mbid
from workers.caches.keys import EntityKey
from workers.leased.adapters import RedisLeased

from .conftest import Clients

WRITES = 400
READERS = 12


def test_nothing_older_than_the_last_invalidation_is_ever_read(clients: Clients) -> None:
    """The database is a number; a load takes a millisecond, so that invalidations fall into it."""
    key = EntityKey("artist", mbid())
    telemetry = FakeTelemetry()
    cache = entity_cache(RedisLeased(clients.entities, "MB:entity"), telemetry)
    committed, told = 0, 0
    stale: list[tuple[int, int]] = []
    reads, loads = [0] * READERS, 0
    done = threading.Event()

    def load(entity_type: str, gid: str) -> bytes:
        nonlocal loads
        loads += 1
        row = committed
        time.sleep(0.001)
        return str(row).encode()

    def read(number: int) -> None:
        while not done.is_set():
            least = told
            found = cache.get_or_load(*key, load)
            reads[number] += 1
            if found is None or int(found) < least:
                stale.append((least, int(found or b"-1")))

    readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for reader in readers:
        reader.start()
    for _ in range(WRITES):
        committed += 1
        cache.invalidate([key])
        told = committed
        time.sleep(0.002)
    done.set()
    for reader in readers:
        reader.join(30)
    assert stale == []
    assert cache.get_or_load(*key, load) == str(WRITES).encode()
    assert min(reads) > 0
    # The race was one: loads were overtaken; and nearly all readers were served by somebody's load.
    assert telemetry.counts["mbevents_cache_loads_total", "artist", "refused"] > 0
    assert loads < 3 * WRITES


def test_after_an_invalidation_a_hot_entity_is_loaded_once(clients: Clients) -> None:
    key = EntityKey("artist", mbid())
    cache = entity_cache(RedisLeased(clients.entities, "MB:entity"), patience=10)
    loads: list[str] = []

    def load(entity_type: str, gid: str) -> bytes:
        loads.append(gid)
        time.sleep(0.05)
        return b"{}"

    for _ in range(3):
        loads.clear()
        cache.invalidate([key])
        together = threading.Barrier(READERS)

        def read(together: threading.Barrier = together) -> None:
            together.wait(10)
            assert cache.get_or_load(*key, load) == b"{}"

        readers = [threading.Thread(target=read) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(30)
        assert loads == [key.mbid]
