"""kill -9 of the bridge that leads, with another one standing by."""

import os
import signal
import time

import psycopg

from events.locks import LEADER_KEY
from events.log import service as event_log
from ops.stack import Stack
from tests.chaos.bridge.drain import lead
from tests.chaos.forks import FORKS
from tests.waiting import wait_for

LEADER = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def test_the_standby_leads_within_two_seconds_and_nothing_is_lost(captured: str, redis_server: Stack) -> None:
    url = redis_server.redis_url(6)
    with psycopg.connect(captured, autocommit=True) as editor:
        leader = FORKS.Process(target=lead, args=(captured, url))
        leader.start()
        edits = 0
        try:
            for _ in range(3):
                wait_for(lambda: _leader(editor) is not None)
                standby = FORKS.Process(target=lead, args=(captured, url))
                standby.start()
                wait_for(lambda: _bridges(editor) == 2)
                editor.execute("UPDATE artist SET name = name || '!' WHERE id = (SELECT min(id) FROM artist)")
                former = _leader(editor)
                assert leader.pid is not None
                os.kill(leader.pid, signal.SIGKILL)
                leader.join()
                leader = standby
                began = time.monotonic()
                editor.execute("UPDATE artist SET name = name || '!' WHERE id = (SELECT min(id) FROM artist)")
                edits += 2
                wait_for(lambda: _leader(editor) not in (None, former), seconds=2)  # noqa: B023 (asked at once)
                wait_for(lambda: event_log.head(editor) == event_log.Head(edits, edits), seconds=2)  # noqa: B023
                assert time.monotonic() - began < 2.5
        finally:
            leader.kill()
            leader.join()
        assert [event.sequence for event in event_log.read(editor, after=0, limit=99)] == list(range(1, edits + 1))


def _leader(editor: psycopg.Connection) -> int | None:
    row = editor.execute(LEADER, (LEADER_KEY & 0xFFFFFFFF,)).fetchone()
    return None if row is None else row[0]


def _bridges(editor: psycopg.Connection) -> int:
    row = editor.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'mbevents bridge' AND datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])
