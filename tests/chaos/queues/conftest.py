"""A database and a Redis for worker processes, and the processes."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from events.ledger import service
from events.ledger.messages import task_message
from events.ledger.service import NewTask
from ops.stack import Stack
from tests.chaos.queues.worker_process import QUEUE, TABLES, broker_for
from tests.integration.events.queues.support import install_tables
from workers.middleware import make_pool

SUPERVISOR = """
import os, signal, sys, threading
from ops.supervisor import Child, Supervisor
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
Supervisor([Child(f"worker {n}", sys.argv[2:]) for n in range(int(sys.argv[1]))]).run(stop, os.environ)
"""


class World:
    """Worker processes on one database and one Redis, and what they did."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.processes: list[subprocess.Popen[bytes]] = []
        self._pool = make_pool(database_url)
        self.broker = broker_for(redis_url, self._pool)

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([sys.executable, *self.command(*options)])
        self.processes.append(process)
        return process

    def supervise(self, n: int, *options: str) -> "subprocess.Popen[bytes]":
        """Start `n` workers under a supervisor."""
        command = [sys.executable, *self.command(*options)]
        process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(n), *command])
        self.processes.append(process)
        return process

    def command(self, *options: str) -> list[str]:
        connections = ["--redis", self.redis_url, "--database", self.database_url]
        return ["-m", "tests.chaos.queues.worker_process", *connections, *options]

    def give(self, actor: str, numbers: range, *, send: bool = True) -> list[int]:
        """Ledgered work, one task for each number; its message may be missing, as after a crash of the bridge."""
        with psycopg.connect(self.database_url) as connection:
            ids = service.add(connection, [NewTask(actor, QUEUE, [n]) for n in numbers])
        if send:
            self.broker.enqueue_many(
                task_message(task, queue=QUEUE, actor=actor, events=[n]) for task, n in zip(ids, numbers, strict=True)
            )
        return ids

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def effects(self) -> Counter[int]:
        """How often each number was worked on."""
        return Counter(row[0] for row in self.rows("SELECT n FROM effect"))

    def started(self) -> Counter[int]:
        return Counter(row[0] for row in self.rows("SELECT n FROM started"))

    def states(self) -> Counter[str]:
        return Counter(row[0] for row in self.rows("SELECT state FROM mbevents.task"))

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            process.wait(20)
        self.broker.close()
        self._pool.close()


@pytest.fixture
def make_world() -> Iterator[Callable[[str, str], World]]:
    made: list[World] = []

    def make(database_url: str, redis_url: str) -> World:
        install_tables(database_url)
        with psycopg.connect(database_url) as connection:
            connection.execute(TABLES)
        made.append(World(database_url, redis_url))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def world(clone: Callable[[str], str], redis_server: Stack, make_world: Callable[[str, str], World]) -> World:
    return make_world(clone("template1"), redis_server.redis_url(6))


class Stopwatch:
    """Seconds since it was started."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._since
