"""What the tests of the bridge share."""

from collections.abc import Callable

import psycopg

from events.locks import AWAKE_KEY
from producers.bridge.service import Bridge
from tests.integration.producers.bridge.conftest import RecordingPublisher
from tests.waiting import wait_for

MakeBridge = Callable[..., Bridge]
RENAME = "UPDATE artist SET name = name || '!' WHERE id = %s"


def some_artists(editor: psycopg.Connection, n: int) -> list[int]:
    return [row[0] for row in editor.execute("SELECT id FROM artist ORDER BY id LIMIT %s", (n,)).fetchall()]


def hear(publisher: RecordingPublisher, count: int) -> None:
    wait_for(lambda: len(publisher.events) == count)


def hear_of(publisher: RecordingPublisher, positions: int) -> None:
    wait_for(lambda: len({event.position for event in publisher.events}) == positions)


def awake(editor: psycopg.Connection) -> bool:
    return bool(
        editor.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND mode = 'ExclusiveLock' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (AWAKE_KEY & 0xFFFFFFFF,),
        ).fetchone()
    )


def bridges(editor: psycopg.Connection) -> list[tuple[object, ...]]:
    return editor.execute(
        "SELECT state, backend_xmin, backend_xid FROM pg_stat_activity"
        " WHERE application_name = 'mbevents bridge' AND datname = current_database()"
    ).fetchall()


def terminate_leader(editor: psycopg.Connection) -> None:
    editor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
