"""A follower's Redis is killed, stopped, replaced and goes silent: every event comes once, in order."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
import redis

from tests.chaos.bridge.proxy import Proxy
from tests.integration.events.pubsub.support import Follower, Log, publish, wait_for_listeners
from tests.redis_process import RedisProcess
from tests.waiting import wait_for

StartRedis = Callable[..., RedisProcess]
LISTENING = "Redis is back."


class Writer:
    """Appends one event after the other and publishes each if it can, as a bridge does."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.written = 0
        self.redis_url = redis_url
        self._database_url = database_url
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
                    publish(f"{self.redis_url}&socket_timeout=0.1", *logged)


@contextmanager
def followed(log: Log, database_url: str, url: str, through: str | None = None) -> Iterator[tuple[Writer, Follower]]:
    """Something is written all the time; at the end the follower has seen all of it, each once and in order."""
    with Follower(database_url, through or url) as follower:
        with redis.Redis.from_url(url) as client:
            wait_for_listeners(client)
        with Writer(database_url, url) as writer:
            writer.more()
            yield writer, follower
            writer.more()
        wait_for(lambda: follower.positions[-1:] == [log.head])
    assert follower.positions == list(range(1, log.head + 1))
    assert follower.error is None


def wait_until_heard(follower: Follower) -> None:
    wait_for(lambda: follower.told[-1:] == [LISTENING])


def test_killed_and_started_again(log: Log, log_database: str, start_redis: StartRedis) -> None:
    server = start_redis()
    with followed(log, log_database, server.url(5)) as (writer, follower):
        server.kill()
        wait_for(lambda: follower.told)
        seen = len(follower.seen)
        writer.more()
        wait_for(lambda: len(follower.seen) > seen + 5)
        server.start()
        wait_until_heard(follower)
    assert [text.split("(")[0] for text in follower.told] == ["Redis cannot be listened to ", LISTENING]


def test_stopped_and_continued(log: Log, log_database: str, start_redis: StartRedis) -> None:
    server = start_redis()
    with followed(log, log_database, server.url(5), f"{server.url(5)}&socket_timeout=0.2") as (writer, follower):
        server.send(signal.SIGSTOP)
        try:
            wait_for(lambda: follower.told)
            seen = len(follower.seen)
            writer.more()
            wait_for(lambda: len(follower.seen) > seen + 5)
        finally:
            server.send(signal.SIGCONT)
        wait_until_heard(follower)
    assert len(follower.told) == 2


@pytest.fixture
def proxy(start_redis: StartRedis) -> Iterator[tuple[RedisProcess, Proxy]]:
    server = start_redis()
    opened = Proxy(str(server.socket))
    yield server, opened
    opened.close()


def test_a_connection_that_is_open_on_our_side_only_is_made_anew(
    log: Log, log_database: str, proxy: tuple[RedisProcess, Proxy]
) -> None:
    server, between = proxy
    with followed(log, log_database, server.url(5), f"redis://127.0.0.1:{between.port}/5") as (_, follower):
        between.freeze()
        wait_until_heard(follower)
    assert "ConnectionError" in follower.told[0]


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


def test_a_replica_takes_over_while_the_old_one_lives_on_and_still_answers(
    log: Log, log_database: str, proxy: tuple[RedisProcess, Proxy], start_redis: StartRedis
) -> None:
    server, between = proxy
    replica = start_redis(master=server)
    with followed(log, log_database, server.url(5), f"redis://127.0.0.1:{between.port}/5") as (writer, follower):
        with redis.Redis.from_url(replica.url(5)) as client:
            client.replicaof("NO", "ONE")
        between.lead_to(str(replica.socket))
        writer.redis_url = replica.url(5)
        # Its connection works, and nothing comes over it any more: only the canary tells.
        wait_until_heard(follower)
        with redis.Redis.from_url(replica.url(5)) as client:
            wait_for_listeners(client)
    assert len(follower.told) == 2
