"""What is read of real databases, and of a feed over HTTP."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from events.errors import MbeventsError
from events.locks import SCHEDULER_KEY, SYNC_KEY
from events.sql import queries
from tests.conftest import TEMPLATE
from workers.replication.status.adapters import Patient, PostgresStatus, UpstreamError, newest_upstream, note_export
from workers.replication.status.core import Answer, Incoming, Outgoing, status_of_mirror
from workers.replication.sync.adapters import Mirror
from workers.replication.sync.core import Pass, parsed_base

Connection = psycopg.Connection[Any]
TOKEN = "s3cretS3cretS3cretS3cretS3cretS3cretS3cr"
# What the sync writes, as its own statements do.
RUN = (
    "INSERT INTO mbevents.sync_run (started_at, ended_at, to_sequence, packets, changes, diverged, outcome, error) "
    "VALUES (now() - %s::interval, now() - %s::interval, %s, %s, %s, %s, %s, %s)"
)


def applied(connection: Connection, *, ago: str = "10 s", sequence: int = 1, error: str | None = None) -> None:
    connection.execute(RUN, (ago, "5 s", sequence, 1, 100, 0, "failed" if error else "applied", error))


# The database


def test_of_a_mirror_there_are_its_place_and_its_runs(mirror: Connection) -> None:
    mirror.execute(
        "UPDATE musicbrainz.replication_control SET current_replication_sequence = 7, last_replication_date = now()"
    )
    mirror.execute(RUN, ("3 min", "2 min", 6, 2, 500, 3, "applied", None))
    mirror.execute(RUN, ("1 min", "50 s", 7, 0, 0, 0, "failed", "no route to host"))
    known = PostgresStatus(mirror)
    incoming = known.incoming()
    assert known.control().sequence == 7
    assert known.control().schema_sequence == 31
    assert [(each.outcome, each.sequence, each.packets, each.changes, each.diverged) for each in incoming.runs] == [
        ("failed", 7, 0, 0, 0),
        ("applied", 6, 2, 500, 3),
    ]
    assert incoming.failed == incoming.runs[0]
    assert incoming.runs[0].error == "no route to host"
    assert (incoming.outcomes, incoming.changes_total) == ({"applied": 1, "failed": 1}, 500)
    assert (incoming.running, incoming.paused) == (False, False)
    found = status_of_mirror(known.clock().now, known.control(), incoming, Answer(9), next_run_at=None)
    assert found.mirror is not None
    assert found.mirror.lag_packets == 2
    assert found.mirror.rate is not None
    assert found.mirror.rate.changes_per_second == pytest.approx(500 / 60, rel=0.01)


def test_what_the_sync_writes_of_its_passes_is_what_is_told(mirror: Connection, mirror_url: str) -> None:
    with psycopg.connect(mirror_url, autocommit=True) as connection:
        syncer = Mirror(connection)
        assert syncer.claim()
        run = syncer.begin_run(4)
        syncer.note_run(run, Pass(first=4, last=6, packets=2, changes=500, diverged=1))
        found = PostgresStatus(mirror).incoming()
        assert found.running
        assert [(each.outcome, each.sequence, each.packets, each.diverged) for each in found.runs] == [
            ("running", 6, 2, 1)
        ]
        syncer.end_run(run, "applied")
        syncer.end_run(syncer.begin_run(6), "failed", "no route")
        syncer.pause(True)
        found = PostgresStatus(mirror).incoming()
        assert [each.outcome for each in found.runs] == ["failed", "applied"]
        assert (found.paused, found.failed, found.changes_total) == (True, found.runs[0], 500)
        syncer.up_to_date()
        assert PostgresStatus(mirror).incoming().failed is None


def test_only_the_last_runs_are_told(mirror: Connection) -> None:
    for number in range(15):
        applied(mirror, sequence=number)
    assert [each.sequence for each in PostgresStatus(mirror).incoming().runs] == list(range(14, 4, -1))


def test_a_run_without_an_end_runs_while_its_process_lives_and_was_killed_otherwise(
    mirror: Connection, mirror_url: str
) -> None:
    for sequence in (1, 2):
        mirror.execute("INSERT INTO mbevents.sync_run (to_sequence) VALUES (%s)", (sequence,))
    with psycopg.connect(mirror_url, autocommit=True) as syncer:
        syncer.execute("SELECT pg_advisory_lock(%s)", (SYNC_KEY,))
        incoming = PostgresStatus(mirror).incoming()
        assert incoming.running
        assert [each.outcome for each in incoming.runs] == ["running", "killed"]
        assert incoming.outcomes == {"killed": 1}
        syncer.execute("SELECT pg_advisory_unlock(%s)", (SYNC_KEY,))
    incoming = PostgresStatus(mirror).incoming()
    assert not incoming.running
    assert [each.outcome for each in incoming.runs] == ["killed", "killed"]


def test_a_lock_in_another_database_is_none_of_ours(mirror: Connection, clone: Callable[[str], str]) -> None:
    with psycopg.connect(clone(TEMPLATE), autocommit=True) as elsewhere:
        elsewhere.execute("SELECT pg_advisory_lock(%s), pg_advisory_lock(%s)", (SYNC_KEY, SCHEDULER_KEY))
        assert not PostgresStatus(mirror).incoming().running
        assert not PostgresStatus(mirror).clock().scheduled


def test_what_was_counted_stays_counted_when_old_runs_go(mirror: Connection) -> None:
    for error in (None, None, "it broke"):
        applied(mirror, error=error)
    mirror.execute("INSERT INTO mbevents.sync_run (changes) VALUES (7)")
    before = PostgresStatus(mirror).incoming()
    assert (before.outcomes, before.changes_total) == ({"applied": 2, "failed": 1, "killed": 1}, 307)
    for newest in (2, 4):
        mirror.execute(queries("workers.replication.sync")["trim_runs"], {"id": newest, "kept": 0})
    after = PostgresStatus(mirror).incoming()
    assert (after.outcomes, after.changes_total, after.runs) == (before.outcomes, before.changes_total, ())


def test_that_it_is_paused_and_when_it_was_up_to_date_is_told(mirror: Connection) -> None:
    applied(mirror, error="it broke")
    mirror.execute("UPDATE mbevents.replication_state SET paused = true, up_to_date_at = now()")
    incoming = PostgresStatus(mirror).incoming()
    assert incoming.paused
    assert incoming.failed is None
    assert incoming.succeeded_at == incoming.up_to_date_at


def test_of_a_master_there_is_what_waits_and_what_was_published(master: Connection) -> None:
    assert PostgresStatus(master).outgoing() == Outgoing()
    with master.transaction():
        master.execute(
            "UPDATE musicbrainz.artist SET comment = 'x' WHERE id IN (SELECT min(id) FROM musicbrainz.artist)"
        )
    master.execute("UPDATE dbmirror2.pending_ts SET ts = now() - interval '1 hour'")
    captured = master.execute("SELECT count(*) FROM dbmirror2.pending_data").fetchone()
    # An editor is captured, but never exported: it is not waited for.
    master.execute("UPDATE musicbrainz.editor SET name = name || '!' WHERE id = 1")
    master.execute(
        "UPDATE dbmirror2.pending_ts SET ts = now() - interval '2 hours' WHERE ts > now() - interval '1 min'"
    )
    packet = (
        "INSERT INTO mbevents.packet (sequence, state, schema_sequence, exported_at, until, running, tick, "
        "first_position, last_position, control_seqid, control_xid, control_old, control_new, changes, published_at) "
        "VALUES (%s, %s, 31, now(), 1, '{}', 1, 1, 1, 1, 1, '{}', '{}', 12, now())"
    )
    master.execute(packet, (1, "published"))
    master.execute(packet, (2, "built"))
    known = PostgresStatus(master)
    outgoing = known.outgoing()
    assert (outgoing.published, outgoing.published_changes, outgoing.on_its_way) == (1, 12, 2)
    assert captured is not None
    assert outgoing.pending == captured[0] > 0
    assert outgoing.oldest_pending_at is not None
    assert timedelta(minutes=59) < known.clock().now - outgoing.oldest_pending_at < timedelta(minutes=61)


def test_why_the_last_export_failed_is_kept_until_one_succeeds(master: Connection) -> None:
    note_export(master, "the disk is full")
    note_export(master, "the disk is still full")
    outgoing = PostgresStatus(master).outgoing()
    assert outgoing.error == "the disk is still full"
    assert outgoing.failed_at is not None
    note_export(master, None)
    assert PostgresStatus(master).outgoing().error is None


def test_a_database_without_anything_of_ours_tells_its_place_and_nothing_else(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        known = PostgresStatus(connection)
        assert known.control().schema_sequence == 31
        assert (known.incoming(), known.outgoing()) == (Incoming(), Outgoing())


def test_a_database_that_is_no_musicbrainz_tells_nothing(stack: Any) -> None:
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        assert PostgresStatus(connection).control().sequence is None


# Upstream


@contextmanager
def feed(status: int, body: bytes, *, location: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """A feed that answers so; its address, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the signature is the base's)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/musicbrainz", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "body", [b'{"last_packet": "replication-104.tar.bz2"}', b'{"last_packet":"replication-104-v2.tar.bz2"}\n']
)
def test_upstream_tells_its_newest_packet(body: bytes) -> None:
    with feed(200, body) as (url, asked):
        assert newest_upstream(parsed_base(url + "/"), TOKEN) == 104
    assert asked == [f"/api/musicbrainz/replication-info?token={TOKEN}"]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, b"Provided access token is invalid!\n", "127.0.0.1:\\d+ refuses the access token"),
        (500, b"", "127.0.0.1:\\d+ answers with status 500"),
        (302, b"", "127.0.0.1:\\d+ answers with status 302"),
        (200, b'{"last_packet": null}', "127.0.0.1:\\d+ has no packets"),
        (200, b'{"last_packet": "replication-9.tar.bz2', "no packet's name"),
        (200, b'{"last_packet": "<script>"}', "no packet's name"),
        (200, b'{"last_packet": "replication-\xff.tar.bz2"}', "no packet's name"),
        (200, b"[" * 1_000_000, "no packet's name"),
    ],
)
def test_an_answer_that_is_none_is_told_without_the_token(status: int, body: bytes, told: str) -> None:
    with feed(status, body, location="http://127.0.0.1:1/elsewhere") as (url, _):
        with pytest.raises(UpstreamError, match=told) as caught:
            newest_upstream(parsed_base(url), TOKEN)
        assert TOKEN not in str(caught.value)


def test_without_a_token_nobody_is_asked() -> None:
    with feed(200, b"") as (url, asked), pytest.raises(UpstreamError, match="no REPLICATION_ACCESS_TOKEN is set"):
        newest_upstream(parsed_base(url), None)
    assert asked == []


def test_an_upstream_that_is_away_is_unknown_and_the_token_is_not_told() -> None:
    answer = Patient(lambda: newest_upstream(parsed_base("http://127.0.0.1:1/"), TOKEN)).get()
    assert answer == Answer(problem="127.0.0.1:1 does not answer: Connection refused")


def test_an_upstream_that_does_not_answer_is_given_up_on() -> None:
    wake = threading.Event()

    def ask() -> int:
        wake.wait(30)
        return 5

    patient = Patient(ask, seconds=0.05, every=0.0)
    began = time.monotonic()
    assert patient.get() == Answer(problem="no answer came within 0.05 s")
    assert patient.get() == Answer(problem="no answer came within 0.05 s")
    assert time.monotonic() - began < 5
    # It is not asked a second time as long as the first hangs.
    assert [thread.name for thread in threading.enumerate()].count("patient") == 1
    wake.set()


def test_an_answer_is_remembered() -> None:
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        raise MbeventsError("it is away") if len(asked) == 1 else ZeroDivisionError(TOKEN)

    patient = Patient(ask, every=60)
    assert [patient.get().problem for _ in range(3)] == ["it is away"] * 3
    assert len(asked) == 1
    impatient = Patient(ask, every=0)
    assert impatient.get().problem == "it cannot be asked (ZeroDivisionError)"


def test_what_is_told_is_json(mirror: Connection) -> None:
    applied(mirror)
    known = PostgresStatus(mirror)
    found = status_of_mirror(known.clock().now, known.control(), known.incoming(), Answer(1), next_run_at=None)
    assert json.loads(json.dumps(found.to_dict(), default=str))["mirror"]["runs"][0]["changes"] == 100
