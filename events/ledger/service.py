"""The ledger: work that must be done, as rows. Every function works in its caller's transaction."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, tuple_row

from events.sql import queries

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NewTask:
    """Work for an actor on the events at these positions of the log (at most 500)."""

    actor: str
    queue: str
    positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Task:
    """Work that is not done yet; `enqueues` says how often it was put in its queue."""

    id: int
    queue: str
    actor: str
    positions: list[int]
    enqueues: int
    enqueued_at: datetime


def add(connection: "psycopg.Connection[Any]", tasks: Iterable[NewTask]) -> list[int]:
    """Write tasks, all in one statement; their ids, in the order given."""
    return start_adding(connection, tasks)()


def start_adding(connection: "psycopg.Connection[Any]", tasks: Iterable[NewTask]) -> Callable[[], list[int]]:
    """As `add`, for a pipeline: what is returned tells the ids, and waits for them."""
    given = list(tasks)
    if not given:
        return list
    cursor = connection.cursor(row_factory=tuple_row).execute(
        queries("events.ledger")["add"],
        {
            "queues": [task.queue for task in given],
            "actors": [task.actor for task in given],
            "positions": ["{" + ",".join(map(str, task.positions)) + "}" for task in given],
        },
    )
    return lambda: sorted(row[0] for row in cursor.fetchall())


def state(connection: "psycopg.Connection[Any]", task_id: int) -> str | None:
    """`queued`, `done` or `dead`; None when it was purged, which only happens to what is done."""
    rows = _rows(connection, "state", id=task_id)
    return rows[0][0] if rows else None


def complete(connection: "psycopg.Connection[Any]", task_id: int, *, attempts: int = 1) -> bool:
    """Mark work as done; False when it already was, or is not there."""
    return _changed(connection, "complete", id=task_id, attempts=attempts) == 1


def fail(connection: "psycopg.Connection[Any]", task_id: int, error: str, *, attempts: int = 1) -> bool:
    """Mark work as dead: it is not enqueued again until somebody retries it. False when it is done or dead."""
    return _changed(connection, "fail", id=task_id, error=error, attempts=attempts) == 1


def overdue(
    connection: "psycopg.Connection[Any]",
    older_than: float,
    limit: int,
    *,
    after: tuple[datetime, int] = (BEGINNING, 0),
) -> list[Task]:
    """Work not done `older_than` seconds after it was enqueued, oldest first, from after (enqueued_at, id)."""
    parameters = {"older_than": older_than, "limit": limit, "after_time": after[0], "after_id": after[1]}
    return _tasks(connection, "overdue", parameters)


def overdue_by_age(connection: "psycopg.Connection[Any]", older_than: float, limit: int) -> list[Task]:
    """Work not done after a time that starts with `older_than` seconds and doubles each time it was enqueued."""
    return _tasks(connection, "overdue_by_age", {"older_than": older_than, "limit": limit})


def still_queued(connection: "psycopg.Connection[Any]", task_ids: Sequence[int]) -> list[int]:
    """Those that are neither done nor dead."""
    return [row[0] for row in _rows(connection, "still_queued", ids=list(task_ids))]


def enqueued(connection: "psycopg.Connection[Any]", task_ids: Sequence[int]) -> None:
    """Note that messages were made again."""
    _changed(connection, "enqueued", ids=list(task_ids))


def purge(connection: "psycopg.Connection[Any]", older_than: float, *, limit: int = 10_000) -> int:
    """Delete what is done for `older_than` seconds, up to `limit`; how many."""
    return _changed(connection, "purge", older_than=older_than, limit=limit)


def counts(connection: "psycopg.Connection[Any]") -> dict[str, int]:
    """How many tasks are in each state."""
    return {"queued": 0, "done": 0, "dead": 0} | dict(_rows(connection, "counts"))


def _rows(connection: "psycopg.Connection[Any]", name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(queries("events.ledger")[name], parameters).fetchall()


def _tasks(connection: "psycopg.Connection[Any]", name: str, parameters: dict[str, Any]) -> list[Task]:
    with connection.cursor(row_factory=class_row(Task)) as cursor:
        return cursor.execute(queries("events.ledger")[name], parameters).fetchall()


def _changed(connection: "psycopg.Connection[Any]", name: str, **parameters: Any) -> int:
    return connection.execute(queries("events.ledger")[name], parameters).rowcount
