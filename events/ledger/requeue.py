"""Enqueues ledgered work again whose message is lost: by a FLUSHALL, or a crash between the row and the queue."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

import psycopg
import structlog

from events.queues.adapters import bury
from events.queues.letters import NewDeadLetter
from events.telemetry import NoTelemetry, Telemetry

from . import service
from .messages import task_message
from .service import BEGINNING, Task

log = structlog.get_logger(__name__)

INTERVAL = 1.0
GRACE = 2.0
BLIND_GRACE = 60.0
SWEEP_EVERY = 30.0
OVERLAP = timedelta(seconds=5)
PAGE = 1_000
# Tasks whose events are in memory at the same time.
LOAD = 20


class Sender(Protocol):
    def enqueue_many(self, messages: Iterable[Any]) -> int: ...


@runtime_checkable
class Askable(Protocol):
    """A broker that can tell whether a task's message is there. RabbitMQ cannot."""

    def has_messages(self, queue_name: str, task_ids: Sequence[int]) -> list[bool]: ...
    def lifetime(self) -> str: ...


class Requeuer:
    """`connect` gives a connection for a block; `load_events` reads events (as dictionaries) from positions of the log.

    Run often, it looks at what became overdue since the last time; at everything that is overdue every `sweep_every`
    seconds, and at once when Redis lost its data.
    """

    def __init__(
        self,
        connect: "Callable[[], AbstractContextManager[psycopg.Connection[Any]]]",
        broker: Sender,
        load_events: Callable[[Sequence[int]], Sequence[dict[str, Any]]],
        *,
        telemetry: Telemetry | None = None,
        grace: float = GRACE,
        blind_grace: float = BLIND_GRACE,
        sweep_every: float = SWEEP_EVERY,
    ) -> None:
        self._connect = connect
        self._broker = broker
        self._askable = broker if isinstance(broker, Askable) else None
        self._load_events = load_events
        self._telemetry = telemetry or NoTelemetry()
        self._grace = grace
        self._blind_grace = blind_grace
        self._sweep_every = sweep_every
        self._lifetime = ""
        self._swept_at = float("-inf")
        self._reached: tuple[datetime, int] = (BEGINNING, 0)

    def run_once(self) -> int:
        """Enqueue again what is lost; how many tasks."""
        requeued = self._by_age() if self._askable is None else self._by_asking(self._askable)
        if requeued:
            log.warning("tasks_enqueued_again", tasks=requeued)
            self._telemetry.count("mbevents_tasks_requeued_total", requeued)
        return requeued

    def run(self, stop: threading.Event, *, interval: float = INTERVAL) -> None:
        """Until `stop` is set; outlasts servers that are away."""
        while not stop.is_set():
            try:
                self.run_once()
            except Exception as error:
                log.warning("requeuer_failed", error=type(error).__name__)
            stop.wait(interval)

    def _by_asking(self, broker: Askable) -> int:
        lifetime, now = broker.lifetime(), time.monotonic()
        sweep = lifetime != self._lifetime or now - self._swept_at >= self._sweep_every
        after = (BEGINNING, 0) if sweep else self._reached
        requeued = 0
        while True:
            with self._connect() as connection:
                page = service.overdue(connection, self._grace, PAGE, after=after)
            if not page:
                break
            after = (page[-1].enqueued_at, page[-1].id)
            requeued += self._enqueue(self._lost(broker, page))
        # Only now: a sweep that failed on its way is made again.
        if sweep:
            self._lifetime, self._swept_at = lifetime, now
        if after != (BEGINNING, 0):
            # A little is looked at twice: the time is that of a transaction's start, and some commit late.
            self._reached = (after[0] - OVERLAP, 0)
        return requeued

    def _lost(self, broker: Askable, page: Sequence[Task]) -> list[Task]:
        by_queue: dict[str, list[Task]] = defaultdict(list)
        for task in page:
            by_queue[task.queue].append(task)
        lost: list[Task] = []
        for queue_name, tasks in by_queue.items():
            there = broker.has_messages(queue_name, [task.id for task in tasks])
            lost += (task for task, has_message in zip(tasks, there, strict=True) if not has_message)
        return lost

    def _by_age(self) -> int:
        requeued = 0
        while True:
            with self._connect() as connection:
                page = service.overdue_by_age(connection, self._blind_grace, PAGE)
            requeued += self._enqueue(page)
            if len(page) < PAGE:
                return requeued

    def _enqueue(self, tasks: Sequence[Task]) -> int:
        return sum(self._enqueue_few(tasks[start : start + LOAD]) for start in range(0, len(tasks), LOAD))

    def _enqueue_few(self, tasks: Sequence[Task]) -> int:
        with self._connect() as connection:
            # Done and acked between the two looks is not lost.
            open_ids = set(service.still_queued(connection, [task.id for task in tasks]))
        messages = []
        for task in tasks:
            if task.id in open_ids:
                events = self._load_events(task.positions)
                if events:
                    messages.append(task_message(task.id, queue=task.queue, actor=task.actor, events=events))
                else:
                    self._give_up(task)
        self._broker.enqueue_many(messages)
        with self._connect() as connection:
            service.enqueued(connection, [message.options["task_id"] for message in messages])
        return len(messages)

    def _give_up(self, task: Task) -> None:
        letter = NewDeadLetter(
            delivery_id=f"{task.id}:gone",
            queue=task.queue,
            actor=task.actor,
            task_id=task.id,
            # There is no message any more, so there is nothing to retry.
            raw=b"",
            error=f"its events (positions {task.positions[0]} to {task.positions[-1]}) are no longer in the log, "
            "so that its message could not be made again",
        )
        with self._connect() as connection:
            bury(connection, [letter])
