"""The bridge on a real database."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise

import psycopg
import pytest

from events.errors import MbeventsError
from events.ledger import service as ledger
from events.locks import AWAKE_KEY
from events.log import service as event_log
from events.telemetry import NoTelemetry
from producers.bridge import publishing, service, ticker
from producers.bridge.core import RestoredDatabaseError, WritersAreActiveError
from producers.bridge.service import AnotherLeadsError, Bridge, NotInstalledError
from schemas.envelope import Draft
from tests.integration.producers.bridge.conftest import OPTIONS, RecordingPublisher, running
from tests.waiting import wait_for

MakeBridge = Callable[..., Bridge]
RENAME = "UPDATE artist SET name = name || '!' WHERE id = %s"


def _artists(editor: psycopg.Connection, n: int) -> list[int]:
    return [row[0] for row in editor.execute("SELECT id FROM artist ORDER BY id LIMIT %s", (n,)).fetchall()]


def test_a_commit_becomes_an_event_in_the_log_the_ledger_and_on_the_channels(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    (artist,) = _artists(editor, 1)
    editor.execute(RENAME, (artist,))
    assert bridge().drain() == 1
    (event,) = event_log.read(editor, after=0, limit=9)
    assert (event.name, event.data["id"], event.source) == ("entity.updated", artist, "mb://test")
    assert [each.body for each in publisher.events] == [event.to_json()]
    ((work, bodies),) = publisher.work
    assert (work.actor, work.queue, list(work.positions), bodies) == (
        "caches.invalidate",
        "caches",
        [1],
        [event.to_json()],
    )
    assert ledger.counts(editor)["queued"] == 1
    assert event_log.head(editor) == event_log.Head(1, 1)


def test_several_changes_of_one_entity_in_a_transaction_are_one_event(
    bridge: MakeBridge, editor: psycopg.Connection
) -> None:
    first, second = _artists(editor, 2)
    with editor.transaction():
        for artist in (first, second, first, first):
            editor.execute(RENAME, (artist,))
    editor.execute(RENAME, (first,))
    bridge().drain()
    assert [event.data["id"] for event in event_log.read(editor, after=0, limit=9)] == [first, second, first]


def test_what_is_rolled_back_never_happened(bridge: MakeBridge, editor: psycopg.Connection) -> None:
    first, second = _artists(editor, 2)
    with editor.transaction(force_rollback=True):
        editor.execute(RENAME, (first,))
    with editor.transaction():
        editor.execute(RENAME, (second,))
        with editor.transaction(force_rollback=True):
            editor.execute(RENAME, (first,))
    bridge().drain()
    assert [event.data["id"] for event in event_log.read(editor, after=0, limit=9)] == [second]


def test_a_long_transaction_neither_blocks_others_nor_loses_its_own(
    bridge: MakeBridge, editor: psycopg.Connection, captured: str, publisher: RecordingPublisher
) -> None:
    first, second, third = _artists(editor, 3)
    with running(bridge()), psycopg.connect(captured) as slow:
        slow.execute(RENAME, (first,))
        for _ in range(20):
            editor.execute(RENAME, (second,))
            time.sleep(0.01)
        wait_for(lambda: len(publisher.events) >= 20)
        slow.execute(RENAME, (third,))
        slow.commit()
        editor.execute(RENAME, (second,))
        wait_for(lambda: len(publisher.events) >= 23)
    ids = [body["data"]["id"] for body in publisher.bodies("entity.updated")]
    assert sorted(ids) == sorted([second] * 21 + [first, third])
    assert publisher.positions == list(range(1, 24))


def test_many_writers_at_once_lose_nothing_and_come_once(
    bridge: MakeBridge, captured: str, publisher: RecordingPublisher, editor: psycopg.Connection
) -> None:
    artists = _artists(editor, 8)
    commits = 60

    def write(artist: int) -> None:
        with psycopg.connect(captured, autocommit=True) as connection:
            for n in range(commits):
                with connection.transaction(force_rollback=n % 7 == 3):
                    connection.execute(RENAME, (artist,))
                    if n % 5 == 0:
                        time.sleep(0.02)

    with running(bridge()):
        writers = [threading.Thread(target=write, args=(artist,)) for artist in artists]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        each = len([n for n in range(commits) if n % 7 != 3])
        wait_for(lambda: len(publisher.events) >= each * len(artists))
        time.sleep(0.2)
    bodies = publisher.bodies("entity.updated")
    assert len({body["id"] for body in bodies}) == len(bodies) == each * len(artists)
    assert publisher.positions == list(range(1, len(bodies) + 1))
    for artist in artists:
        times = [body["time"] for body in bodies if body["data"]["id"] == artist]
        assert len(times) == each
        assert all(one <= other for one, other in pairwise(times)), "out of commit order for one entity"


def test_a_large_batch_is_worked_off_in_parts(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    artists = _artists(editor, 30)
    for artist in artists:
        with editor.transaction():
            editor.execute(RENAME, (artist,))
            editor.execute("UPDATE artist_meta SET rating = 50 WHERE id = %s", (artist,))
    with editor.transaction():
        for artist in artists:
            editor.execute(RENAME, (artist,))
    assert bridge(part_rows=7).drain() == 60
    ids = [body["data"]["id"] for body in publisher.bodies("entity.updated")]
    assert ids == artists + artists
    assert publisher.positions == list(range(1, 61))


def test_a_batch_too_large_for_memory_is_published_from_the_log(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticker, "KEEP", 5)
    monkeypatch.setattr(ticker, "BLOCK", 4)
    monkeypatch.setattr(publishing, "READ_EVENTS", 6)
    with editor.transaction():
        for artist in _artists(editor, 30):
            editor.execute(RENAME, (artist,))
    assert bridge().drain() == 30
    assert publisher.positions == list(range(1, 31))
    assert sorted(position for work, _ in publisher.work for position in work.positions) == list(range(1, 31))
    by_position = {event.position: event.body for event in publisher.events}
    for work, bodies in publisher.work:
        assert bodies == [by_position[position] for position in work.positions]


def test_what_an_earlier_bridge_committed_and_did_not_publish_is_published_again_with_the_same_ids(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    for artist in _artists(editor, 3):
        editor.execute(RENAME, (artist,))
    bridge().drain()
    before = [event.body for event in publisher.events]
    editor.execute("UPDATE mbevents.head SET published = 1")
    publisher.events.clear()
    publisher.work.clear()
    assert bridge().drain() == 2
    assert [event.body for event in publisher.events] == before[1:]
    # The message is whole again, also with the event that had been published.
    assert [bodies for _, bodies in publisher.work] == [before]


def test_while_redis_is_away_the_log_goes_on_and_is_published_later_in_order(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    first, second = _artists(editor, 2)
    with running(bridge()):
        publisher.away = True
        for _ in range(5):
            editor.execute(RENAME, (first,))
            time.sleep(0.02)
        wait_for(lambda: event_log.head(editor).position == 5 and publisher.refused > 1)
        assert event_log.head(editor).published == 0
        publisher.away = False
        _hear(publisher, 5)
        editor.execute(RENAME, (second,))
        _hear(publisher, 6)
        wait_for(lambda: event_log.head(editor).published == 6)
    assert publisher.positions == [1, 2, 3, 4, 5, 6]


def test_a_sleeping_bridge_is_woken_at_once_and_one_that_is_awake_is_not_notified(
    bridge: MakeBridge, editor: psycopg.Connection, captured: str, publisher: RecordingPublisher
) -> None:
    (artist,) = _artists(editor, 1)
    leader = bridge(probe=60.0)
    with running(leader), psycopg.connect(captured, autocommit=True) as listener:
        listener.execute("LISTEN mbevents")
        wait_for(lambda: leader.status.leading and _awake(editor))
        for _ in range(3):
            wait_for(lambda: not _awake(editor))
            before, began = len(publisher.events), time.monotonic()
            editor.execute(RENAME, (artist,))
            _hear(publisher, before + 1)
            assert time.monotonic() - began < 0.5
            wait_for(lambda: _awake(editor))
            editor.execute(RENAME, (artist,))
            _hear(publisher, before + 2)
        wait_for(lambda: not _awake(editor))
        # Beside the bridge's own to itself, which carry a token.
        assert [each.payload for each in listener.notifies(timeout=0.2)].count("") == 3


def test_a_writer_that_thought_it_awake_and_commits_when_it_sleeps_is_seen(
    bridge: MakeBridge, editor: psycopg.Connection, captured: str, publisher: RecordingPublisher
) -> None:
    first, second = _artists(editor, 2)
    with running(bridge(probe=60.0)), psycopg.connect(captured) as late:
        wait_for(lambda: not _awake(editor))
        editor.execute(RENAME, (first,))
        wait_for(lambda: _awake(editor))
        late.execute(RENAME, (second,))
        wait_for(lambda: not _awake(editor))
        time.sleep(0.3)
        late.commit()
        began = time.monotonic()
        _hear(publisher, 2)
        assert time.monotonic() - began < 1.0


def test_an_idle_bridge_holds_nothing_back(bridge: MakeBridge, editor: psycopg.Connection) -> None:
    with running(bridge(probe=60.0)):
        wait_for(lambda: not _awake(editor) and _bridges(editor) == [("idle", None, None)])


def test_of_two_bridges_one_leads_and_the_other_takes_over_within_two_seconds(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    (artist,) = _artists(editor, 1)
    one, other = bridge(), bridge()
    with running(other), running(one):
        wait_for(lambda: one.status.leading or other.status.leading)
        editor.execute(RENAME, (artist,))
        _hear(publisher, 1)
        assert one.status.leading != other.status.leading
        leader, standby = (one, other) if one.status.leading else (other, one)
        began = time.monotonic()
        _terminate_leader(editor)
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
    (artist,) = _artists(editor, 1)
    with running(bridge()):
        for n in range(1, 6):
            editor.execute(RENAME, (artist,))
            _terminate_leader(editor)
            _hear_of(publisher, n)
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
    for artist in _artists(editor, 2):
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
    (artist,) = _artists(editor, 1)
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
    artists = _artists(editor, 10)
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
    (artist,) = _artists(editor, 1)
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
    editor.execute(RENAME, (_artists(editor, 1)[0],))
    assert bridge().drain() == 1
    assert editor.execute("SELECT count(*) FROM dbmirror2.pending_data").fetchone() == (1,)


def test_a_large_transaction_may_take_longer_than_an_answer(bridge: MakeBridge, editor: psycopg.Connection) -> None:
    editor.execute(
        "INSERT INTO artist (gid, name, sort_name)"
        " SELECT gen_random_uuid(), 'a' || i, 'a' || i FROM generate_series(1, 12000) i"
    )
    assert bridge(answer=0.6).drain() == 12_000


def test_upkeep_is_done_however_busy_it_is(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[str] = []
    monkeypatch.setattr(service, "TRIM_EVERY", 0.2)
    leader = bridge(probe=0.3)
    leader.telemetry = type("Probes", (NoTelemetry,), {"observe": lambda *args, **_: probes.append(args[1])})()
    (artist,) = _artists(editor, 1)
    with running(leader):
        wait_for(lambda: leader.status.leading)
        for _ in range(60):
            editor.execute(RENAME, (artist,))
            time.sleep(0.02)
        left = editor.execute("SELECT count(*) FROM dbmirror2.pending_data").fetchone()
        _hear(publisher, 60)
    assert left is not None
    assert left[0] < 50
    assert probes.count("mbevents_bridge_probe_seconds") >= 3


def test_who_reads_the_log_for_long_does_not_hold_up_a_new_leader(
    bridge: MakeBridge, editor: psycopg.Connection, captured: str
) -> None:
    editor.execute(RENAME, (_artists(editor, 1)[0],))
    with psycopg.connect(captured) as reader:
        reader.execute("SELECT count(*) FROM mbevents.event")
        assert bridge(answer=3.0).drain() == 1


def test_a_drain_that_is_told_to_stop_stops(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    publisher.away = True
    editor.execute(RENAME, (_artists(editor, 1)[0],))
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
            head = event_log.head(editor, lock=True)
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


def _hear(publisher: RecordingPublisher, count: int) -> None:
    wait_for(lambda: len(publisher.events) == count)


def _hear_of(publisher: RecordingPublisher, positions: int) -> None:
    wait_for(lambda: len({event.position for event in publisher.events}) == positions)


def _awake(editor: psycopg.Connection) -> bool:
    return bool(
        editor.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND mode = 'ExclusiveLock' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (AWAKE_KEY & 0xFFFFFFFF,),
        ).fetchone()
    )


def _bridges(editor: psycopg.Connection) -> list[tuple[object, ...]]:
    return editor.execute(
        "SELECT state, backend_xmin, backend_xid FROM pg_stat_activity"
        " WHERE application_name = 'mbevents bridge' AND datname = current_database()"
    ).fetchall()


def _terminate_leader(editor: psycopg.Connection) -> None:
    editor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
