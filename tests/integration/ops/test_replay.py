import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from events.errors import PartlyDoneError
from events.ledger.collecting import Work
from events.log.service import Logged
from events.queues.worker import run_worker
from ops.replay import Replay
from ops.wiring import Runtime
from producers.bridge.publishing import PublishFailedError
from tests.integration.ops.conftest import rename


class Kept:
    """A publisher that keeps what it is given, and fails once it has `limit` events."""

    def __init__(self, limit: int = 10**9) -> None:
        self.events: list[Logged] = []
        self.work: list[Work] = []
        self._limit = limit

    def publish(self, events: Sequence[Logged], work: Sequence[tuple[Work, list[bytes]]]) -> None:
        if len(self.events) + len(events) > self._limit:
            raise PublishFailedError("Redis is away.")
        self.events += events
        self.work += [each for each, _ in work]


def test_a_preview_says_what_would_be_touched_and_touches_nothing(runtime: Runtime) -> None:
    changed = rename(runtime)
    runtime.bridge.drain()
    kept = Kept()
    preview = Replay(runtime.connect, kept).preview()
    assert preview.total == changed
    assert preview.events == {"entity.updated": changed}
    assert preview.work == {"caches.invalidate": changed}
    assert kept.events == []


def test_events_are_told_again_with_their_ids_and_their_work_is_new(runtime: Runtime) -> None:
    changed = rename(runtime)
    runtime.bridge.drain()
    kept = Kept()
    done = Replay(runtime.connect, kept).run()
    assert (done.events, done.tasks) == (changed, 1)
    with runtime.connection() as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM mbevents.event ORDER BY position")]
        tasks = connection.execute("SELECT count(*), max(id) FROM mbevents.task").fetchone()
    assert [f'"{each}"'.encode() in event.body for each, event in zip(ids, kept.events, strict=True)] == [
        True
    ] * changed
    assert tasks == (2, kept.work[0].task_id)


def test_only_what_is_asked_for_is_told_again(runtime: Runtime) -> None:
    changed = rename(runtime)
    runtime.bridge.drain()
    rename(runtime, "?")
    runtime.bridge.drain()
    for replay, number in (
        (Replay(runtime.connect, Kept(), after=changed), changed),
        (Replay(runtime.connect, Kept(), types=["edit.opened"]), 0),
        (Replay(runtime.connect, Kept(), since=datetime.now(UTC) + timedelta(hours=1)), 0),
        (Replay(runtime.connect, Kept(), since=datetime.now(UTC) - timedelta(hours=1)), 2 * changed),
    ):
        assert replay.preview().total == number


def test_what_is_logged_meanwhile_is_not_told_again(runtime: Runtime) -> None:
    changed = rename(runtime)
    runtime.bridge.drain()
    replay = Replay(runtime.connect, Kept())
    rename(runtime, "?")
    runtime.bridge.drain()
    assert replay.run().events == changed


def test_a_replay_that_breaks_off_leaves_its_work_in_the_ledger(runtime: Runtime) -> None:
    rename(runtime)
    runtime.bridge.drain()
    with pytest.raises(PublishFailedError):
        Replay(runtime.connect, Kept(limit=0)).run()
    with runtime.connection() as connection:
        connection.execute("UPDATE mbevents.task SET enqueued_at = now() - interval '1 hour'")
    assert runtime.requeuer.run_once() == 1
    run_worker(runtime.worker_broker, threads=1, stop=threading.Event(), drain=True)
    with runtime.connection() as connection:
        assert connection.execute("SELECT DISTINCT state FROM mbevents.task").fetchall() == [("done",)]


def test_a_replay_that_breaks_off_half_way_says_from_where_to_go_on(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.replay.PAGE", 1)
    changed = rename(runtime)
    runtime.bridge.drain()
    with pytest.raises(
        PartlyDoneError, match=r"Redis is away\. Before that 2 of the events were published: .* --after 2"
    ):
        Replay(runtime.connect, Kept(limit=2)).run()
    assert Replay(runtime.connect, Kept(), after=2).run().events == changed - 2
