"""The days of the log: made ahead, and dropped whole when they are old and nobody needs them any more."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import structlog
from psycopg import sql

from events.sql import queries

log = structlog.get_logger(__name__)

DAYS_AHEAD = 2
_CREATE = sql.SQL("CREATE TABLE IF NOT EXISTS mbevents.{} PARTITION OF mbevents.event FOR VALUES FROM ({}) TO ({})")


def there(connection: "psycopg.Connection[Any]", day: date) -> bool:
    """Whether the partition of a day is there."""
    return _name(day) in set(_names(connection))


def ensure(connection: "psycopg.Connection[Any]", today: date, *, ahead: int = DAYS_AHEAD) -> None:
    """Make the partitions of today and the next days."""
    there = set(_names(connection))
    for day in (today + timedelta(days=n) for n in range(ahead + 1)):
        if _name(day) not in there:
            days = (_midnight(day), _midnight(day + timedelta(days=1)))
            connection.execute(_CREATE.format(sql.Identifier(_name(day)), *days))


def drop_expired(connection: "psycopg.Connection[Any]", today: date, *, retention_days: int) -> list[str]:
    """Drop days that ended `retention_days` ago; a day with events that are still needed stays. Their names."""
    expired = [name for name in _names(connection) if _day(name) < today - timedelta(days=retention_days)]
    dropped = []
    if expired:
        row = connection.execute(queries("events.log")["oldest_needed"]).fetchone()
        needed = row[0] if row else None
        for name in expired:
            table = sql.Identifier("mbevents", name)
            last = connection.execute(sql.SQL("SELECT max(position) FROM {}").format(table)).fetchone()
            if last is not None and last[0] is not None and needed is not None and last[0] >= needed:
                log.warning("event_partition_kept", partition=name, last_position=last[0], needed_from=needed)
                continue
            connection.execute(sql.SQL("DROP TABLE {}").format(table))
            dropped.append(name)
    return dropped


def _names(connection: "psycopg.Connection[Any]") -> Iterable[str]:
    rows: list[Any] = connection.execute(queries("events.log")["partitions"]).fetchall()
    return [row[0] for row in rows]


def _name(day: date) -> str:
    return f"event_{day:%Y%m%d}"


def _day(name: str) -> date:
    return datetime.strptime(name, "event_%Y%m%d").replace(tzinfo=UTC).date()


def _midnight(day: date) -> sql.Literal:
    return sql.Literal(f"{day:%Y-%m-%d} 00:00:00+00")
