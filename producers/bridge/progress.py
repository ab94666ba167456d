"""How far the bridge is, for who waits for it."""

from typing import Any

import psycopg

from events.sql import queries
from producers.bridge.core import Snapshot, State


def now(connection: "psycopg.Connection[Any]") -> Snapshot:
    """What is committed."""
    return Snapshot.parse(_value(connection, "snapshot"))


def behind(connection: "psycopg.Connection[Any]", moment: Snapshot) -> bool:
    """Whether a captured row of that moment is not in the log yet."""
    state = State.from_json(_value(connection, "state"))
    bounds = {
        "low": state.low(moment).pending,
        "xmax": state.snapshot.xmax,
        "ended": state.ended(moment),
        "until": moment.xmax,
        "running": sorted(moment.xip),
    }
    return bool(_value(connection, "unticked", bounds))


def _value(connection: "psycopg.Connection[Any]", query: str, parameters: dict[str, Any] | None = None) -> Any:
    row = connection.execute(queries("producers.bridge")[query], parameters).fetchone()
    assert row is not None
    return row[0]
