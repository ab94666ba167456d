"""A worker as a process of its own, for tests to kill: `python -m tests.chaos.queues.worker_process`."""

import argparse
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dramatiq
import psycopg
from psycopg_pool import ConnectionPool

from events.ledger.requeue import Requeuer
from events.queues.adapters import PostgresDeadLetters
from events.queues.broker import HEARTBEAT_TIMEOUT_MS, RedisQueues
from events.queues.reaper import Reaper
from events.queues.worker import run_worker
from events.telemetry import NoTelemetry
from workers.middleware import PostgresLedger, Retries, make_pool, standard_middleware

QUEUE = "work"
TABLES = """
CREATE TABLE started (n bigint, pid int);
CREATE TABLE effect (n bigint, pid int);
"""


def note(database_url: str, table: str, n: int) -> None:
    # Postgres may be away just then; the actor fails in that case, and runs again.
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"INSERT INTO {table} VALUES (%s, %s)", (n, os.getpid()))


def actors(database_url: str) -> dict[str, Callable[..., None]]:
    """What can be done to an event that is only a number."""

    def quick(*, events: Sequence[int], **_: Any) -> None:
        for n in events:
            note(database_url, "effect", n)

    def slow(*, events: Sequence[int], **_: Any) -> None:
        for n in events:
            note(database_url, "started", n)
        time.sleep(1.5)
        quick(events=events)

    def killer(*, events: Sequence[int], **_: Any) -> None:
        for n in events:
            note(database_url, "started", n)
        os.kill(os.getpid(), signal.SIGKILL)

    return {"quick": quick, "slow": slow, "killer": killer}


def broker_for(
    redis_url: str, pool: "ConnectionPool[Any]", heartbeat_timeout: int = HEARTBEAT_TIMEOUT_MS
) -> RedisQueues:
    *others, _ = standard_middleware(PostgresLedger(pool.connection), NoTelemetry())
    return RedisQueues(redis_url, middleware=[*others, Retries(min_backoff=200)], heartbeat_timeout=heartbeat_timeout)


def numbers(positions: Sequence[int]) -> list[Any]:
    """The events at these positions of the log."""
    return list(positions)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--heartbeat-timeout", type=int, default=HEARTBEAT_TIMEOUT_MS)
    parser.add_argument("--drain", action="store_true")
    given = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with make_pool(given.database) as pool:
        broker = broker_for(given.redis, pool, given.heartbeat_timeout)
        for name, work in actors(given.database).items():
            dramatiq.actor(work, actor_name=name, queue_name=QUEUE, broker=broker)
        requeuer = partial(Requeuer, pool.connection, broker, numbers)
        run_worker(
            broker,
            threads=given.threads,
            stop=stop,
            drain=given.drain,
            refill=requeuer(grace=0).run_once,
            duties=[Reaper(broker, PostgresDeadLetters(pool.connection)).run, requeuer().run],
        )
        broker.close()


if __name__ == "__main__":
    main()
