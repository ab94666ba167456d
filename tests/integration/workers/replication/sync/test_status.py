"""What status tells of real syncs."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest

from events.errors import VersionMismatchError
from tests.integration.workers.replication.conftest import Connection
from tests.integration.workers.replication.sync.conftest import Follower
from workers.replication.status.adapters import PostgresStatus
from workers.replication.status.core import Answer
from workers.replication.status.service import StatusReader
from workers.replication.status.verdict import verdict


def reader(mirror: Connection, upstream: int) -> StatusReader:
    return StatusReader(
        "RT_MIRROR",
        lambda: nullcontext(PostgresStatus(mirror)),
        upstream=lambda: Answer(upstream),
        stored=lambda: Answer(0),
        interval=60,
        clean=str,
    )


def test_what_was_applied_is_told_with_its_rate_and_what_is_left(
    follower: Follower, packets: Callable[[int], None], mirror: Connection
) -> None:
    packets(2)
    follower.once()
    found = reader(mirror, 5).read()
    assert (found.replication_sequence, found.next_run_at) == (2, None)
    assert found.mirror is not None
    assert found.mirror.lag_packets == 3
    assert [(run.outcome, run.packets, run.sequence) for run in found.mirror.runs] == [("applied", 2, 2)]
    assert found.mirror.changes_total > 0
    assert found.mirror.catch_up_seconds is not None
    assert found.mirror.succeeded_at is not None
    assert verdict(found).level == "OK"


def test_another_schema_is_critical_at_once(
    follower: Follower, packets: Callable[[int], None], master: Connection, mirror: Connection
) -> None:
    packets(1)
    master.execute("UPDATE replication_control SET current_schema_sequence = 32")
    packets(1)
    with pytest.raises(VersionMismatchError):
        follower.once()
    found = reader(mirror, 2).read()
    assert found.mirror is not None
    assert found.mirror.mismatch
    assert verdict(found).level == "CRITICAL"
    assert "is of schema 32, the mirror of schema 31" in verdict(found).line


def test_a_sync_that_was_told_to_end_has_not_failed(
    follower: Follower, packets: Callable[[int], None], mirror: Connection
) -> None:
    packets(2)
    say = follower.said.append

    def end_after_the_first(text: str) -> None:
        say(text)
        follower.stop.set()

    syncer = follower.syncer()
    syncer._say = end_after_the_first
    syncer.once()
    found = reader(mirror, 2).read()
    assert found.mirror is not None
    assert [(run.outcome, run.packets) for run in found.mirror.runs] == [("stopped", 1)]
    assert (found.mirror.error, found.mirror.lag_packets) == (None, 1)


def test_a_sync_that_runs_is_told_to_run_and_when_it_looks_again(mirror: Connection, mirror_url: str) -> None:
    from workers.replication.sync.adapters import Mirror

    with psycopg.connect(mirror_url, autocommit=True) as connection:
        assert Mirror(connection).claim()
        Mirror(connection).up_to_date()
        found = reader(mirror, 0).read()
    assert found.mirror is not None
    assert found.mirror.running
    assert found.next_run_at is not None
    assert 0 < (found.next_run_at - found.at).total_seconds() <= 60


def test_hooks_that_fail_are_a_warning_until_a_run_without(
    follower: Follower, packets: Callable[[int], None], mirror: Connection, tmp_path: Path
) -> None:
    hook = tmp_path / "hooks" / "index"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 3\n")
    hook.chmod(0o755)
    packets(1)
    follower.once(hooks=hook.parent)
    found = reader(mirror, 1).read()
    assert found.mirror is not None
    assert (found.mirror.error, [run.outcome for run in found.mirror.runs]) == (None, ["applied"])
    told = verdict(found)
    assert told.level == "WARNING"
    assert "the last run went well, but: The hook index failed with exit code 3. Packet 1 stays applied." in told.text
    packets(1)
    hook.unlink()
    follower.once()
    assert verdict(reader(mirror, 2).read()).level == "OK"
