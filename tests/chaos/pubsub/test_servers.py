"""Whatever happens to a follower's Redis: every event comes once, in order, and soon."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
import redis

from tests.chaos.redis.faulty import FAULTS, Fault, FaultyRedis
from tests.integration.events.pubsub.support import Follower, Log, publish, wait_for_listeners
from tests.proxy import Proxy
from tests.redis_process import RedisProcess
from tests.waiting import wait_for

BACK = "Redis is back."
# What a follower does not notice.
UNNOTICED = {"slow", "full", "emptied", "clock ahead", "clock behind"}


class Writer:
    """Appends one event after the other and publishes each at the master if it can, as a bridge does."""

    def __init__(self, database_url: str, faulty: FaultyRedis) -> None:
        self.written = 0
        self._database_url = database_url
        self._faulty = faulty
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, number: int = 5) -> None:
        """Wait until so many more are written."""
        before = self.written
        wait_for(lambda: self.written >= before + number)

    def _run(self) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            log = Log(connection)
            while not self._stop.wait(0.02):
                logged = log.append("edit.opened", "edit.closed")
                self.written += 2
                with suppress(redis.RedisError):
                    publish(f"{self._faulty.master.url(5)}&socket_timeout=0.1", *logged)


@contextmanager
def followed(log: Log, database_url: str, faulty: FaultyRedis) -> Iterator[tuple[Writer, Follower]]:
    """Something is written all the time; at the end the follower has seen all of it, each once and in order."""
    with Follower(database_url, f"{faulty.url(5)}?socket_timeout=0.2") as follower:
        with redis.Redis.from_url(faulty.master.url(5)) as client:
            wait_for_listeners(client)
        with Writer(database_url, faulty) as writer:
            writer.more()
            yield writer, follower
            writer.more()
        wait_for(lambda: follower.positions[-1:] == [log.head])
    assert follower.positions == list(range(1, log.head + 1))
    assert follower.error is None


@pytest.mark.parametrize("fault", FAULTS)
def test_every_event_comes_once_in_order_and_meanwhile(
    log: Log, log_database: str, faulty: FaultyRedis, fault: Fault
) -> None:
    with followed(log, log_database, faulty) as (writer, follower):
        with faulty.suffering(fault):
            if fault not in {*UNNOTICED, "restored", "failed over late"}:
                # A connection that lives and over which nothing comes any more: only the canary tells.
                wait_for(lambda: follower.told)
            seen = len(follower.seen)
            writer.more()
            wait_for(lambda: len(follower.seen) > seen + 5)
        if fault not in UNNOTICED:
            wait_for(lambda: follower.told[-1:] == [BACK])
        with redis.Redis.from_url(faulty.master.url(5)) as client:
            wait_for_listeners(client)
    gone, back = follower.told[::2], follower.told[1::2]
    assert all(text.startswith("Redis cannot be listened to") for text in gone)
    assert back == [BACK] * len(gone)
    assert (not gone) is (fault in UNNOTICED)


@pytest.fixture
def proxy(start_redis: Callable[..., RedisProcess]) -> Iterator[tuple[RedisProcess, Proxy]]:
    server = start_redis()
    opened = Proxy(str(server.socket))
    yield server, opened
    opened.close()


def test_a_slow_one_is_not_taken_for_dead(log: Log, log_database: str, proxy: tuple[RedisProcess, Proxy]) -> None:
    server, between = proxy
    # To connect takes longer than the canary may.
    between.delay = 0.06
    with Follower(log_database, f"redis://127.0.0.1:{between.port}/5") as follower:
        # One to listen, and one for each canary.
        wait_for(lambda: between.connections > 2)
        publish(server.url(5), *log.append("edit.opened"))
        wait_for(lambda: follower.seen)
    assert follower.told == []
