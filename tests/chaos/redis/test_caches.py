"""The Redis of a cache is killed, stopped, full, restored from its disk and replaced by its replica: what is read is
right, soon enough, and never older than the last invalidation."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from events.breaker import Breaker
from events.connections import open_client
from tests.chaos.bridge.proxy import Proxy
from tests.redis_process import RedisProcess
from tests.waiting import wait_for
from workers.leased.adapters import RedisLeased
from workers.leased.core import Loaded
from workers.leased.service import ReadThrough, StoreUnavailableError

StartRedis = Callable[..., RedisProcess]
SECONDS = 0.3


class Database:
    """A number, and how often it was read."""

    def __init__(self) -> None:
        self.number = 0
        self.loads = 0

    def load(self) -> Loaded:
        self.loads += 1
        return Loaded(b"%d" % self.number, ("number",))


@contextmanager
def cache_on(url: str) -> Iterator[ReadThrough]:
    client = open_client(url, Breaker("redis test", open_seconds=0.2), seconds=SECONDS)
    yield ReadThrough(RedisLeased.of(client, "MB:test"), "search")
    client.close()


def forget(cache: ReadThrough) -> None:
    """As the worker does it: again and again until it is certain."""

    def forgotten() -> bool:
        try:
            cache.forget(tags=["number"])
        except StoreUnavailableError:
            return False
        return True

    wait_for(forgotten)


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_while_redis_is_away_everything_is_read_from_the_database_and_it_heals(
    start_redis: StartRedis, fault: str
) -> None:
    server, database = start_redis(), Database()
    with cache_on(server.url()) as cache:
        assert cache.get_or_load("page", database.load) == b"0"
        assert cache.get_or_load("page", database.load) == b"0"
        assert database.loads == 1
        if fault == "kill":
            server.kill()
        else:
            server.send(signal.SIGSTOP)
        slowest = 0.0
        for number in range(1, 50):
            database.number = number
            began = time.monotonic()
            assert cache.get_or_load("page", database.load) == b"%d" % number
            slowest = max(slowest, time.monotonic() - began)
        # A read and a lease, each given up after its time.
        assert slowest < 2 * SECONDS + 0.3
        back = threading.Timer(0.3, server.start if fault == "kill" else lambda: server.send(signal.SIGCONT))
        back.start()
        forget(cache)
        back.join()
        wait_for(lambda: cached(cache, database))


def cached(cache: ReadThrough, database: Database) -> bool:
    """Read twice, loaded once at most; what is read is right."""
    before = database.loads
    for _ in range(2):
        assert cache.get_or_load("page", database.load) == b"%d" % database.number
    return database.loads <= before + 1


def test_slow_it_is_used_and_too_slow_it_is_left_alone_until_it_is_quick_again(start_redis: StartRedis) -> None:
    server, database = start_redis(), Database()
    between = Proxy(str(server.socket))
    try:
        between.delay = SECONDS / 6
        with cache_on(f"redis://127.0.0.1:{between.port}/0") as cache:
            for number in range(3):
                database.number = number
                cache.forget(tags=["number"])
                assert cached(cache, database)
            between.delay = SECONDS
            database.number = 3
            slowest = 0.0
            for _ in range(20):
                began = time.monotonic()
                # It may serve what it was not told to forget; nobody was told that it did.
                assert cache.get_or_load("page", database.load) in {b"2", b"3"}
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 2 * SECONDS + 0.3
            between.delay = 0.0
            forget(cache)
            wait_for(lambda: cached(cache, database))
    finally:
        between.close()


def test_full_it_serves_what_it_has_forgets_what_it_must_and_stores_nothing(start_redis: StartRedis) -> None:
    server, database = start_redis(), Database()
    with cache_on(server.url()) as cache, redis.Redis.from_url(server.url()) as admin:
        cache.get_or_load("page", database.load)
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", 1)
        assert cached(cache, database)
        database.number = 1
        cache.forget(tags=["number"])
        assert [cache.get_or_load("page", database.load) for _ in range(3)] == [b"1"] * 3
        assert database.loads == 4
        admin.config_set("maxmemory", 0)
        assert cached(cache, database)


def test_restored_from_its_disk_it_has_nothing_that_was_invalidated_since(start_redis: StartRedis) -> None:
    server, database = start_redis(keeps=True), Database()
    with cache_on(server.url()) as cache, redis.Redis.from_url(server.url()) as admin:
        cache.get_or_load("page", database.load)
        admin.save()
        database.number = 1
        cache.forget(tags=["number"])
        server.kill()
        server.start()
        # It is there, and without our looking it would be valid.
        unaware = ReadThrough(RedisLeased(admin, "MB:test"), "search")
        assert unaware.get_or_load("page", database.load) == b"0"
        assert cache.get_or_load("page", database.load) == b"1"
        assert unaware.get_or_load("page", database.load) == b"1"


def test_a_replica_that_takes_over_serves_nothing_that_its_master_had_forgotten(
    start_redis: StartRedis, tmp_path: Path
) -> None:
    master = start_redis()
    replica, database = start_redis(master=master), Database()
    current = master.socket.with_name("current.sock")
    current.symlink_to(master.socket)
    with cache_on(f"unix://{current}") as cache, redis.Redis.from_url(replica.url()) as admin:
        cache.get_or_load("page", database.load)
        wait_for(lambda: admin.exists("MB:test:page"))
        # It misses what happens from here on.
        admin.replicaof("NO", "ONE")
        database.number = 1
        cache.forget(tags=["number"])
        master.kill()
        current.unlink()
        current.symlink_to(replica.socket)
        assert RedisLeased(admin, "MB:test").read(["page"]) != [None]
        assert cache.get_or_load("page", database.load) == b"1"
        assert cached(cache, database)


def test_a_master_that_became_a_replica_serves_nothing_any_more_that_it_cannot_be_told_to_forget(
    start_redis: StartRedis,
) -> None:
    server, database = start_redis(), Database()
    with cache_on(server.url()) as cache, redis.Redis.from_url(server.url()) as admin:
        cache.get_or_load("page", database.load)
        # Of another master, which this one does not reach; our connections are not closed by that.
        admin.replicaof("127.0.0.1", "1")
        database.number = 1
        assert cache.get_or_load("page", database.load) == b"1"
        admin.replicaof("NO", "ONE")
        forget(cache)
        wait_for(lambda: cached(cache, database))
