"""What tests of queues share: our tables, a worker in a thread, and waiting for something to come true."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import dramatiq
import psycopg
from dramatiq import Message

from events.queues.worker import Duty, run_worker


def install_tables(database_url: str) -> None:
    """The tables of the queues and the ledger, and nothing else."""
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS mbevents")
        for package in ("events.queues", "events.ledger"):
            connection.execute(files(package).joinpath("schema.sql").read_bytes())


def actor(broker: Any, name: str, queue: str, work: Callable[..., None], **options: Any) -> None:
    """Register a function as an actor."""
    dramatiq.actor(work, actor_name=name, queue_name=queue, broker=broker, **options)


def message(queue: str, name: str, task_id: int | None = None, **kwargs: Any) -> Any:
    """A message; without kwargs, that of the present version with no events."""
    options = {} if task_id is None else {"task_id": task_id}
    return Message(queue, name, (), kwargs or {"version": 1, "events": []}, options)


@contextmanager
def working(
    broker: Any,
    *,
    threads: int = 4,
    queues: Sequence[str] | None = None,
    duties: Sequence[Duty] = (),
    prefetch: int = 200,
) -> Iterator[None]:
    """A worker in this process, for the length of a block."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            run_worker(broker, queues, threads=threads, stop=stop, duties=duties, prefetch=prefetch, stop_timeout=10)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert failures == []


def drain(broker: Any, *, threads: int = 4) -> None:
    """Work until the queues are empty."""
    run_worker(broker, threads=threads, stop=threading.Event(), drain=True, stop_timeout=10)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; fails when it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.01)
