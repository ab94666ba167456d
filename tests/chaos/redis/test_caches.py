"""Whatever happens to the Redis of a cache: what is read is right, comes soon enough, and is never older than the last
invalidation."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from events.breaker import Breaker
from events.connections import open_client
from tests.chaos.redis.faulty import AWAY, FAULTS, LONGEST, SECONDS, Fault, FaultyRedis, Stopwatch
from tests.waiting import wait_for
from workers.leased.adapters import RedisLeased
from workers.leased.core import Loaded
from workers.leased.service import ReadThrough, StoreUnavailableError


class Page:
    """Shows a number of the database, which counts how often it was read; every answer is looked at."""

    def __init__(self) -> None:
        self.number = 0
        self.loads = 0
        self.timed = Stopwatch()
        # The last number that the cache was told about for certain.
        self._told = 0

    def change(self, cache: ReadThrough) -> bool:
        """Whether it is certain that the old one was forgotten."""
        self.number += 1
        try:
            # By its name and by its tag in turns.
            if self.number % 2:
                self.timed(lambda: cache.forget(["page"]))
            else:
                self.timed(lambda: cache.forget(tags=["number"]))
        except StoreUnavailableError:
            return False
        self._told = self.number
        return True

    def read(self, cache: ReadThrough) -> None:
        found = self.timed(lambda: cache.get_or_load("page", self._load))
        assert found is not None
        assert self._told <= int(found) <= self.number

    def is_kept(self, cache: ReadThrough) -> bool:
        """Read twice, it is loaded once at most."""
        before = self.loads
        for _ in range(2):
            self.read(cache)
        return self.loads <= before + 1

    def _load(self) -> Loaded:
        self.loads += 1
        return Loaded(b"%d" % self.number, ("number",))


@contextmanager
def cache_on(faulty: FaultyRedis) -> Iterator[ReadThrough]:
    client = open_client(faulty.url(), Breaker("redis test", open_seconds=0.2), seconds=SECONDS)
    yield ReadThrough(RedisLeased(client, "MB:test"), "search")
    client.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_stale_is_read_nobody_waits_for_long_and_it_heals(faulty: FaultyRedis, fault: Fault) -> None:
    page = Page()
    # One notices nothing: it neither reads nor loses its connections meanwhile.
    with cache_on(faulty) as cache, cache_on(faulty) as absent:
        for each in (cache, absent):
            page.read(each)
        with faulty.suffering(fault):
            if fault not in AWAY:
                wait_for(lambda: page.is_kept(cache))
            certain = []
            for _ in range(10):
                certain.append(page.change(cache))
                page.read(cache)
            if fault in AWAY:
                assert not any(certain)
            else:
                wait_for(lambda: page.change(cache))
                page.read(cache)
                # A full one stores nothing.
                assert page.is_kept(cache) is (fault != "full")
        # With what it had all the time, and with what is new.
        for again in (True, False):
            for each in (absent, cache):
                wait_for(partial(page.is_kept, each))
            if again:
                wait_for(lambda: page.change(cache))
    # A read and a lease, each given up after its time.
    assert page.timed.slowest < LONGEST
