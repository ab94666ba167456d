"""The bridge on a real database: what is committed becomes events, once, in order."""

import threading
import time
from itertools import pairwise

import psycopg
import pytest

from events.ledger import collecting
from events.ledger import service as ledger
from events.log import service as event_log
from producers.bridge import publishing, ticker
from tests.integration.producers.bridge.conftest import RecordingPublisher, running
from tests.integration.producers.bridge.support import (
    RENAME,
    MakeBridge,
    awake,
    hear,
    some_artists,
)
from tests.waiting import wait_for


def test_a_commit_becomes_an_event_in_the_log_the_ledger_and_on_the_channels(
    bridge: MakeBridge, editor: psycopg.Connection, publisher: RecordingPublisher
) -> None:
    (artist,) = some_artists(editor, 1)
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
    first, second = some_artists(editor, 2)
    with editor.transaction():
        for artist in (first, second, first, first):
            editor.execute(RENAME, (artist,))
    editor.execute(RENAME, (first,))
    bridge().drain()
    assert [event.data["id"] for event in event_log.read(editor, after=0, limit=9)] == [first, second, first]


def test_what_is_rolled_back_never_happened(bridge: MakeBridge, editor: psycopg.Connection) -> None:
    first, second = some_artists(editor, 2)
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
    first, second, third = some_artists(editor, 3)
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
    artists = some_artists(editor, 8)
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
    artists = some_artists(editor, 30)
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
    monkeypatch.setattr(collecting, "BLOCK", 4)
    monkeypatch.setattr(publishing, "READ_EVENTS", 6)
    with editor.transaction():
        for artist in some_artists(editor, 30):
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
    for artist in some_artists(editor, 3):
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
    first, second = some_artists(editor, 2)
    with running(bridge()):
        publisher.away = True
        for _ in range(5):
            editor.execute(RENAME, (first,))
            time.sleep(0.02)
        wait_for(lambda: event_log.head(editor).position == 5 and publisher.refused > 1)
        assert event_log.head(editor).published == 0
        publisher.away = False
        hear(publisher, 5)
        editor.execute(RENAME, (second,))
        hear(publisher, 6)
        wait_for(lambda: event_log.head(editor).published == 6)
    assert publisher.positions == [1, 2, 3, 4, 5, 6]


def test_a_sleeping_bridge_is_woken_at_once_and_one_that_is_awake_is_not_notified(
    bridge: MakeBridge, editor: psycopg.Connection, captured: str, publisher: RecordingPublisher
) -> None:
    (artist,) = some_artists(editor, 1)
    leader = bridge(probe=60.0)
    with running(leader), psycopg.connect(captured, autocommit=True) as listener:
        listener.execute("LISTEN mbevents")
        wait_for(lambda: leader.status.leading and awake(editor))
        for _ in range(3):
            wait_for(lambda: not awake(editor))
            before, began = len(publisher.events), time.monotonic()
            editor.execute(RENAME, (artist,))
            hear(publisher, before + 1)
            # Long before it would look by itself.
            assert time.monotonic() - began < 5
            wait_for(lambda: awake(editor))
            editor.execute(RENAME, (artist,))
            hear(publisher, before + 2)
        wait_for(lambda: not awake(editor))
        # Beside the bridge's own to itself, which carry a token.
        assert [each.payload for each in listener.notifies(timeout=0.2)].count("") == 3


def test_a_writer_that_thought_it_awake_and_commits_when_it_sleeps_is_seen(
    bridge: MakeBridge, editor: psycopg.Connection, captured: str, publisher: RecordingPublisher
) -> None:
    first, second = some_artists(editor, 2)
    with running(bridge(probe=60.0)), psycopg.connect(captured) as late:
        wait_for(lambda: not awake(editor))
        editor.execute(RENAME, (first,))
        wait_for(lambda: awake(editor))
        late.execute(RENAME, (second,))
        wait_for(lambda: not awake(editor))
        time.sleep(0.3)
        late.commit()
        began = time.monotonic()
        hear(publisher, 2)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("part_rows", [5_000, 2])
def test_a_master_keeps_the_snapshot_of_each_tick(
    bridge: MakeBridge, editor: psycopg.Connection, captured: str, part_rows: int
) -> None:
    artists = some_artists(editor, 3)
    master = bridge(replication_type="RT_MASTER", part_rows=part_rows)
    with psycopg.connect(captured) as slow:
        slow.execute(RENAME, (artists[0],))
        running = slow.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        editor.execute("UPDATE artist SET name = name || '!' WHERE id = ANY (%s)", (artists[1:],))
        master.drain()
    master.drain()
    first, second = editor.execute("SELECT until, running FROM mbevents.tick_snapshot ORDER BY tick").fetchall()
    assert running is not None
    assert running[0] in first[1]
    assert running[0] not in second[1]
    assert first[0] <= second[0]


def test_who_exports_nothing_keeps_no_snapshots(bridge: MakeBridge, editor: psycopg.Connection) -> None:
    editor.execute(RENAME, (some_artists(editor, 1)[0],))
    bridge().drain()
    assert editor.execute("SELECT count(*) FROM mbevents.tick_snapshot").fetchone() == (0,)
