"""The life of a bridge on a real database: who leads, upkeep, restores, refusals."""

import threading
import time
from datetime import UTC, datetime
from importlib.resources import files

import psycopg
import pytest

from events.derivation.core import Deriver
from events.errors import MbeventsError, UsageError
from events.log import service as event_log
from events.telemetry import NoTelemetry
from producers.bridge import service
from producers.bridge.core import RestoredDatabaseError, WritersAreActiveError
from producers.bridge.service import AnotherLeadsError, Bridge, NotInstalledError
from schemas.capture import RowChange
from schemas.envelope import Draft
from tests.integration.producers.bridge.conftest import OPTIONS, RecordingPublisher, running
from tests.integration.producers.bridge.support import (
    RENAME,
    MakeBridge,
    awake,
    bridges,
    hear,
    hear_of,
    some_artists,
    terminate_leader,
)
from tests.waiting import wait_for


def test_an_idle_bridge_holds_nothing_back(bridge: MakeBridge, editor: psycopg.Connection) -> None:
    with running(bridge(probe=60.0)):
        wait_for(lambda: not awake(editor) and bridges(editor) == [("idle", None, None)])


def test_of_two_bridges_one_leads_and_the_other_takes_over_within_two_seconds(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    (artist,) = some_artists(editor, 1)
    one, other = bridge(), bridge()
    with running(other), running(one):
        wait_for(lambda: one.status.leading or other.status.leading)
        editor.execute(RENAME, (artist,))
        # Else it would be published once more.
        wait_for(lambda: event_log.head(editor).published == 1)
        assert one.status.leading != other.status.leading
        leader, standby = (one, other) if one.status.leading else (other, one)
        began = time.monotonic()
        terminate_leader(editor)
        wait_for(lambda: one.status.leading or other.status.leading, seconds=2)
        editor.execute(RENAME, (artist,))
        wait_for(lambda: len(publisher.events) == 2, seconds=2)
        assert time.monotonic() - began < 2.5
        assert leader is not standby
    assert publisher.positions == [1, 2]


def test_a_drain_beside_a_leader_says_so(bridge: MakeBridge) -> None:
    leader = bridge()
    with running(leader):
        wait_for(lambda: leader.status.leading)
        with pytest.raises(AnotherLeadsError):
            bridge().drain()


def test_lost_connections_are_made_again_and_nothing_is_lost(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    (artist,) = some_artists(editor, 1)
    with running(bridge()):
        for n in range(1, 6):
            editor.execute(RENAME, (artist,))
            terminate_leader(editor)
            hear_of(publisher, n)
    ids = {event.position: event.body for event in publisher.events}
    assert sorted(ids) == [1, 2, 3, 4, 5]
    assert all(ids[event.position] == event.body for event in publisher.events)


def test_a_truncated_table_is_told(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    editor.execute("TRUNCATE musicbrainz.artist_ipi")
    bridge().drain()
    (body,) = publisher.bodies("table.truncated")
    assert body["subject"] == "table/musicbrainz.artist_ipi"


@pytest.mark.parametrize(("replication_type", "left"), [("RT_STANDALONE", 0), ("RT_MASTER", 2)])
def test_ticked_rows_are_trimmed_unless_the_export_needs_them(
    bridge: MakeBridge, editor: psycopg.Connection, replication_type: str, left: int
) -> None:
    for artist in some_artists(editor, 2):
        editor.execute(RENAME, (artist,))
    editor.execute("INSERT INTO editor (id, name, password, ha1) VALUES (9, 'somebody', 'x', 'y')")
    bridge(replication_type=replication_type).drain()
    counts = editor.execute(
        "SELECT (SELECT count(*) FROM dbmirror2.pending_data WHERE tablename LIKE '%artist'),"
        " (SELECT count(*) FROM dbmirror2.pending_ts) > 0, (SELECT count(*) FROM mbevents.outbox)"
    ).fetchone()
    assert counts == (left, left > 0, 0)


def test_a_restored_database_is_refused_until_it_is_reset(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    (artist,) = some_artists(editor, 1)
    editor.execute("UPDATE mbevents.tick SET state = jsonb_set(state, '{snapshot}', '\"99999999:99999999:\"')")
    editor.execute(RENAME, (artist,))
    with pytest.raises(RestoredDatabaseError):
        bridge().drain()
    with pytest.raises(RestoredDatabaseError):
        bridge().run(threading.Event())
    bridge().reset()
    editor.execute(RENAME, (artist,))
    assert bridge().drain() == 1


@pytest.mark.parametrize("part_rows", [5_000, 3])
def test_what_a_restore_brought_from_a_cluster_with_higher_ids_becomes_events(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher, part_rows: int
) -> None:
    artists = some_artists(editor, 10)
    for artist in artists:
        editor.execute(RENAME, (artist,))
    for table in ("pending_data", "pending_ts"):
        editor.execute(f"UPDATE dbmirror2.{table} SET xid = xid + 10000000")
    editor.execute("UPDATE mbevents.tick SET state = jsonb_set(state, '{snapshot}', '\"99999999:99999999:\"')")
    bridge(part_rows=part_rows).reset()
    assert [body["data"]["id"] for body in publisher.bodies("entity.updated")] == artists
    editor.execute(RENAME, (artists[0],))
    assert bridge(part_rows=part_rows).drain() == 1
    assert bridge(part_rows=part_rows).drain() == 0


def test_it_is_not_reset_while_others_write(bridge: MakeBridge, editor: psycopg.Connection, captured: str) -> None:
    (artist,) = some_artists(editor, 1)
    with psycopg.connect(captured) as writer:
        writer.execute(RENAME, (artist,))
        with pytest.raises(WritersAreActiveError):
            bridge().reset()


def test_rows_of_a_capture_that_is_not_ours_are_never_trimmed(bridge: MakeBridge, editor: psycopg.Connection) -> None:
    editor.execute(
        "CREATE OR REPLACE FUNCTION dbmirror2.recordchange() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO dbmirror2.pending_data (tablename, op, xid, olddata, newdata) VALUES"
        " ('musicbrainz.artist', 'u', txid_current(), row_to_json(OLD), row_to_json(NEW)); RETURN NULL; END $$"
    )
    editor.execute(RENAME, (some_artists(editor, 1)[0],))
    assert bridge().drain() == 1
    assert editor.execute("SELECT count(*) FROM dbmirror2.pending_data").fetchone() == (1,)


def test_a_large_transaction_may_take_longer_than_an_answer(
    bridge: MakeBridge, editor: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    derive = Deriver.add

    def slowly(self: Deriver, changes: list[RowChange]) -> None:
        # In many steps, each far below an answer's time, also on a busy machine.
        time.sleep(0.15)
        derive(self, changes)

    monkeypatch.setattr(Deriver, "add", slowly)
    editor.execute(
        "INSERT INTO artist (gid, name, sort_name)"
        " SELECT gen_random_uuid(), 'a' || i, 'a' || i FROM generate_series(1, 10000) i"
    )
    began = time.monotonic()
    assert bridge(answer=2.5, part_rows=1_000).drain() == 10_000
    assert time.monotonic() - began > 2.5


def test_upkeep_is_done_however_busy_it_is(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[str] = []
    monkeypatch.setattr(service, "TRIM_EVERY", 0.2)
    leader = bridge(probe=0.3)
    leader.telemetry = type("Probes", (NoTelemetry,), {"observe": lambda *args, **_: probes.append(args[1])})()
    (artist,) = some_artists(editor, 1)
    with running(leader):
        wait_for(lambda: leader.status.leading)
        for _ in range(60):
            editor.execute(RENAME, (artist,))
            time.sleep(0.02)
        left = editor.execute("SELECT count(*) FROM dbmirror2.pending_data").fetchone()
        hear(publisher, 60)
    assert left is not None
    assert left[0] < 50
    assert probes.count("mbevents_bridge_probe_seconds") >= 3


def test_who_reads_the_log_for_long_does_not_hold_up_a_new_leader(
    bridge: MakeBridge, editor: psycopg.Connection, captured: str
) -> None:
    editor.execute(RENAME, (some_artists(editor, 1)[0],))
    with psycopg.connect(captured) as reader:
        reader.execute("SELECT count(*) FROM mbevents.event")
        assert bridge(answer=3.0).drain() == 1


def test_a_drain_that_is_told_to_stop_stops(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    publisher.away = True
    editor.execute(RENAME, (some_artists(editor, 1)[0],))
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    bridge().drain(stop)
    timer.join()
    assert event_log.head(editor) == event_log.Head(1, 0)


def test_what_it_may_not_do_ends_it_with_a_clear_error(
    editor: psycopg.Connection, captured: str, publisher: RecordingPublisher
) -> None:
    editor.execute("CREATE ROLE bridge_without_rights LOGIN")
    try:
        poor = Bridge(
            captured.replace("postgres@", "bridge_without_rights@"), publisher, options=OPTIONS, telemetry=NoTelemetry()
        )
        with pytest.raises(MbeventsError, match="permission denied"):
            poor.run(threading.Event())
        assert "permission denied" in poor.status.problem
    finally:
        editor.execute("DROP ROLE bridge_without_rights")


def test_without_an_installation_it_says_what_to_do(database: str, publisher: RecordingPublisher) -> None:
    with pytest.raises(NotInstalledError, match="db install"):
        Bridge(database, publisher, options=OPTIONS, telemetry=NoTelemetry()).drain()


def test_on_a_mirror_it_publishes_what_others_append(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    with running(bridge(replication_type="RT_MIRROR", probe=0.5)):
        draft = Draft("an-id", "entity.updated", "artist/x", "2026-01-01T00:00:00Z", 5, {})
        wait_for(
            lambda: (
                editor.execute("SELECT 1 FROM pg_inherits WHERE inhparent = 'mbevents.event'::regclass").rowcount > 0
            )
        )
        with editor.transaction():
            head = event_log.head(editor)
            list(event_log.append(editor, [draft], source="m", after=head.position, recorded_at=datetime.now(UTC)))
            event_log.advance(editor, head.position + 1, after=head.position)
            editor.execute("NOTIFY mbevents")
        wait_for(lambda: [event.name for event in publisher.events] == ["entity.updated"])


def test_the_state_of_a_newer_release_ends_it_with_a_clear_error(
    bridge: MakeBridge, editor: psycopg.Connection
) -> None:
    editor.execute("UPDATE mbevents.tick SET state = '{\"version\": 99}'")
    with pytest.raises(MbeventsError, match="newer release"):
        bridge().run(threading.Event())


def test_its_schema_is_installed_again_without_harm(editor: psycopg.Connection) -> None:
    before = editor.execute("SELECT state FROM mbevents.tick").fetchall()
    editor.execute(files("producers.bridge").joinpath("schema.sql").read_bytes())
    assert editor.execute("SELECT state FROM mbevents.tick").fetchall() == before


def test_a_database_that_exports_is_not_trimmed_by_a_bridge_that_takes_it_for_standalone(
    bridge: MakeBridge, editor: psycopg.Connection
) -> None:
    editor.execute(RENAME, (some_artists(editor, 1)[0],))
    editor.execute(
        "INSERT INTO mbevents.packet (sequence, state, schema_sequence, exported_at, until, running, tick, "
        "first_position, last_position, control_seqid, control_xid, control_old, control_new) "
        "VALUES (1, 'published', 31, now(), 1, '{}', 1, 0, 0, 1, 1, '{}', '{}')"
    )
    with pytest.raises(UsageError, match="Set REPLICATION_TYPE=RT_MASTER"):
        bridge().drain()
    with pytest.raises(UsageError, match="Set REPLICATION_TYPE=RT_MASTER"):
        bridge().run(threading.Event())
    assert bridge(replication_type="RT_MASTER").drain() == 1
    assert editor.execute("SELECT count(*) > 0 FROM dbmirror2.pending_data").fetchone() == (True,)
