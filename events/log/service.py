"""The event log: appended without gaps, read by position. Every function works in its caller's transaction."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import orjson
import psycopg
from psycopg.rows import tuple_row

from events.sql import queries
from schemas.envelope import Draft, Event, full_type


@dataclass(frozen=True, slots=True)
class Head:
    """The last position given out, and the last that was published. Everything up to it can be read from the log."""

    position: int
    published: int


@dataclass(frozen=True, slots=True)
class Logged:
    """An event of the log as it travels: `body` is its CloudEvents JSON, encoded once for every use."""

    position: int
    name: str
    body: bytes


Window = tuple[int, list[tuple[int, Event | None]]]


def head(connection: "psycopg.Connection[Any]") -> Head:
    """Where the log ends."""
    return Head(*_rows(connection, "head")[0])


def append(
    connection: "psycopg.Connection[Any]", drafts: Iterable[Draft], *, source: str, after: int, recorded_at: datetime
) -> Iterator[Logged]:
    """Write drafts to the positions behind `after`, as they come; yields each as it was written.

    In the same transaction the caller moves the head with `advance`. The day's partition must be there.
    """
    with connection.cursor() as cursor, cursor.copy(queries("events.log")["copy"]) as copy:
        for row, logged in _written(drafts, source, after, recorded_at):
            copy.write_row(row)
            yield logged


def append_few(
    connection: "psycopg.Connection[Any]", drafts: Sequence[Draft], *, source: str, after: int, recorded_at: datetime
) -> list[Logged]:
    """As `append`, for a pipeline, in which PostgreSQL knows no COPY."""
    rows = list(_written(drafts, source, after, recorded_at))
    for row, _ in rows:
        connection.execute(queries("events.log")["insert"], row)
    return [logged for _, logged in rows]


def rows_of(
    drafts: Iterable[Draft], *, source: str, after: int, recorded_at: datetime
) -> Iterator[tuple[tuple[Any, ...], Draft]]:
    """Drafts with their rows of mbevents.event, in the order of the query `copy`, at the positions behind `after`."""
    when = recorded_at.astimezone(UTC).isoformat()
    types: dict[str, str] = {}
    for position, draft in enumerate(drafts, after + 1):
        kind = types.get(draft.name) or types.setdefault(draft.name, full_type(draft.name))
        data = orjson.dumps(draft.data).decode()
        yield (position, when, draft.id, kind, source, draft.subject, draft.time, draft.xid, data), draft


def _written(
    drafts: Iterable[Draft], source: str, after: int, recorded_at: datetime
) -> Iterator[tuple[tuple[Any, ...], Logged]]:
    for row, draft in rows_of(drafts, source=source, after=after, recorded_at=recorded_at):
        position, _, _, kind, *_, data = row
        # Encoded already: to_dict does not look at it.
        event = Event(draft.id, kind, source, draft.subject, draft.time, position, cast(Any, orjson.Fragment(data)))
        yield row, Logged(position, draft.name, orjson.dumps(event.to_dict()))


def advance(connection: "psycopg.Connection[Any]", position: int, *, after: int) -> None:
    """Move the end of the log from `after`, in the transaction that appended up to there.

    PostgreSQL raises NotNullViolation when somebody else has appended since `after` was read; in a pipeline at its end.
    """
    connection.execute(queries("events.log")["advance"], {"position": position, "from": after})


def mark_published(connection: "psycopg.Connection[Any]", position: int) -> None:
    """Note that everything up to here reached the channels and queues."""
    connection.execute(queries("events.log")["published"], {"published": position})


def read(
    connection: "psycopg.Connection[Any]",
    *,
    after: int,
    limit: int,
    types: Sequence[str] | None = None,
    since: datetime | None = None,
) -> list[Event]:
    """Events behind a position, in order. `types` are names as in channels (`entity.updated`); `since` is the time
    at which they were written to the log."""
    return _events(connection, "read", after=after, limit=limit, types=_full(types), since=since)


def window(
    connection: "psycopg.Connection[Any]", *, after: int, limit: int, types: Sequence[str] | None = None
) -> Window:
    """The position at which the log ends, and each position behind `after` that is kept, in order, up to `limit` of
    them, with its event (None: of another type). Both as they are at one moment."""
    rows = _rows(connection, "window", after=after, limit=limit, types=_full(types))
    kept = [(row[1], None if row[7] is None else _event(row[1:])) for row in rows if row[1] is not None]
    return rows[0][0], kept


def latest(
    connection: "psycopg.Connection[Any]",
    *,
    limit: int,
    types: Sequence[str] | None = None,
    since: datetime | None = None,
    subject: str | None = None,
) -> list[Event]:
    """The newest events, newest first; with a `subject` (`artist/<mbid>`) those about it."""
    if subject is None:
        return _events(connection, "latest", limit=limit, types=_full(types), since=since)
    return _events(connection, "by_subject", subject=subject, limit=limit, types=_full(types), since=since)


def at(connection: "psycopg.Connection[Any]", positions: Sequence[int]) -> list[Event]:
    """The events at these positions; those that are no longer kept are left out."""
    return _events(connection, "at", positions=list(positions))


def get(connection: "psycopg.Connection[Any]", name: str) -> Event | None:
    """One event by its id or, when `name` is a number, its position."""
    if name.isascii() and name.isdigit() and len(name) <= 18:
        found = at(connection, [int(name)])
        if found:
            return found[0]
    found = _events(connection, "by_id", id=name)
    return found[0] if found else None


def encoded(events: Iterable[Event]) -> Iterator[Logged]:
    """Events that were read, as they travel."""
    for event in events:
        yield Logged(event.sequence, event.name, event.to_json())


def _full(types: Sequence[str] | None) -> list[str] | None:
    return None if types is None else [full_type(name) for name in types]


def _rows(connection: "psycopg.Connection[Any]", query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(queries("events.log")[query], parameters or None).fetchall()


def _events(connection: "psycopg.Connection[Any]", query: str, **parameters: Any) -> list[Event]:
    return [_event(row) for row in _rows(connection, query, **parameters)]


def _event(row: tuple[Any, ...]) -> Event:
    return Event(row[1], row[2], row[3], row[4], row[5], row[0], orjson.loads(row[6]))
