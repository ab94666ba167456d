"""A mirror that follows a feed over HTTP, and what stops it."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from events.errors import UnreachableError, UsageError, VersionMismatchError
from events.locks import SYNC_KEY
from tests.integration.workers.replication.conftest import Connection
from tests.integration.workers.replication.support import differing
from tests.integration.workers.replication.sync.conftest import Follower
from tests.integration.workers.replication.sync.feed_server import FeedServer
from tests.waiting import wait_for
from workers.replication.apply.options import ApplyOptions, DivergenceError
from workers.replication.apply.service import WrongSequenceError
from workers.replication.packet.errors import PacketError
from workers.replication.sync import core
from workers.replication.sync.adapters import Mirror
from workers.replication.sync.core import Filters, RefusedError
from workers.replication.sync.signatures import SignatureError

Make = Callable[[int], None]
FIRST = "(SELECT min(id) FROM artist)"


def sequence(mirror: Connection) -> int:
    row = mirror.execute("SELECT current_replication_sequence FROM replication_control").fetchone()
    assert row is not None
    return int(row[0])


def runs(mirror: Connection) -> list[tuple[Any, ...]]:
    return mirror.execute(
        "SELECT from_sequence, to_sequence, packets, error, ended_at IS NOT NULL FROM mbevents.sync_run ORDER BY id"
    ).fetchall()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_mirror_gets_all_that_the_feed_has(
    master: Connection, mirror: Connection, packets: Make, follower: Follower
) -> None:
    packets(4)
    done = follower.once()
    assert (done.first, done.last, done.packets, done.up_to_date, done.lag_seconds) == (0, 4, 4, True, 0.0)
    assert differing(master, mirror) == []
    assert follower.once().packets == 0
    assert names(follower.spool) == [".lock"]
    # A pass that found nothing is no news.
    assert runs(mirror) == [(0, 4, 4, None, True)]
    assert "Packet 4: 2 changes in " in follower.said[3]


def test_no_more_than_asked_for(mirror: Connection, packets: Make, follower: Follower) -> None:
    packets(3)
    done = follower.once(2)
    assert (done.packets, done.up_to_date, sequence(mirror)) == (2, False, 2)
    assert done.lag_seconds
    assert follower.once(2).up_to_date


def test_a_packet_that_came_broken_is_fetched_once_more(
    mirror: Connection, packets: Make, feed: FeedServer, follower: Follower
) -> None:
    packets(2)
    feed.faults += [feed.broken_off(300, clean=True)]
    done = follower.once()
    assert (done.packets, done.up_to_date, sequence(mirror)) == (2, True, 2)
    # The server may also hang up on what it has promised to go on with.
    told = next(each for each in follower.said if "it is downloaded once more" in each)
    assert "replication-1-v2.tar.bz2" in told


def test_a_packet_that_is_broken_changes_nothing(
    mirror: Connection, packets: Make, folder: Path, follower: Follower
) -> None:
    packets(2)
    path = folder / "replication-2-v2.tar.bz2"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(PacketError, match="replication-2-v2"):
        follower.once()
    assert sequence(mirror) == 1
    first, last, count, error, ended = runs(mirror)[0]
    assert (first, last, count, ended) == (0, 1, 1, True)
    assert "replication-2-v2" in error
    assert names(follower.spool) == [".lock"]


def test_another_schema_is_told_with_both_numbers(
    master: Connection, mirror: Connection, packets: Make, follower: Follower
) -> None:
    master.execute("UPDATE replication_control SET current_schema_sequence = 32")
    packets(1)
    with pytest.raises(VersionMismatchError, match=r"Packet 1 is of schema 32, the mirror of schema 31: upgrade"):
        follower.once()
    assert sequence(mirror) == 0


def test_a_packet_under_another_ones_name_is_refused(
    mirror: Connection, packets: Make, folder: Path, follower: Follower
) -> None:
    packets(2)
    (folder / "replication-2-v2.tar.bz2").rename(folder / "replication-1-v2.tar.bz2")
    with pytest.raises(WrongSequenceError, match=r"replication-1-v2.tar.bz2 holds packet 2, though .* has it as 1"):
        follower.once()
    assert sequence(mirror) == 0


def test_a_gap_of_the_feed_is_told(
    mirror: Connection, packets: Make, feed: FeedServer, folder: Path, follower: Follower
) -> None:
    packets(3)
    feed.newest = 3
    (folder / "replication-2-v2.tar.bz2").unlink()
    with pytest.raises(RefusedError, match="has packet 3, but not 2"):
        follower.once()
    assert sequence(mirror) == 1


def test_a_pass_that_failed_began_when_it_began(
    mirror: Connection, packets: Make, feed: FeedServer, follower: Follower
) -> None:
    packets(1)
    follower.stall = 0.2
    feed.faults += [feed.stall()] * 4
    with pytest.raises(UnreachableError):
        follower.once()
    took = mirror.execute("SELECT extract(epoch FROM ended_at - started_at)::float8 FROM mbevents.sync_run").fetchone()
    assert took is not None
    assert 0.8 <= took[0] < 10


def test_a_wrong_address_is_no_success(mirror: Connection, feed: FeedServer, follower: Follower) -> None:
    with pytest.raises(RefusedError, match="There is no feed at"):
        follower.once()
    assert mirror.execute("SELECT up_to_date_at FROM mbevents.replication_state").fetchone() == (None,)
    feed.newest = -1
    assert follower.once().up_to_date
    assert mirror.execute("SELECT up_to_date_at IS NULL FROM mbevents.replication_state").fetchone() == (False,)


def test_a_database_that_is_no_copy_of_a_master_is_told(mirror: Connection, packets: Make, follower: Follower) -> None:
    mirror.execute("UPDATE replication_control SET current_replication_sequence = NULL")
    with pytest.raises(UsageError, match="has no replication sequence"):
        follower.once()


def test_rows_that_differ_stop_it_or_are_repaired(
    master: Connection, mirror: Connection, packets: Make, follower: Follower
) -> None:
    mirror.execute(f"DELETE FROM artist WHERE id = {FIRST}")
    packets(1)
    with pytest.raises(DivergenceError, match=r"musicbrainz\.artist"):
        follower.once()
    assert sequence(mirror) == 0
    done = follower.once(apply=replace(follower.options.apply, on_divergence="repair"))
    assert (done.diverged, done.one_by_one) == (1, 1)
    detail: Any = json.loads(json.dumps(done.to_dict()))["details"][0]
    assert (detail["number"], detail["mode"], detail["diverged"]) == (1, "one by one", 1)
    divergence = detail["divergences"][0]
    assert (divergence["table"], divergence["op"]) == ("musicbrainz.artist", "u")
    assert divergence["key"]
    assert divergence["difference"]
    assert differing(master, mirror) == []
    assert "  1 row differed from the master's:" in follower.said


def test_a_packet_known_to_be_broken_is_applied_as_far_as_it_goes(
    mirror: Connection, packets: Make, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "BROKEN", frozenset({1}))
    mirror.execute(f"DELETE FROM artist WHERE id = {FIRST}")
    packets(1)
    assert follower.once().diverged == 1
    assert "known to be broken" in follower.said[0]


def test_what_is_filtered_stays_as_it_is(
    master: Connection, mirror: Connection, packets: Make, follower: Follower
) -> None:
    ignored = frozenset({"musicbrainz.artist", "musicbrainz.no_such"})
    filters = Filters(frozenset({"statistics", "statistic"}), ignored)
    before = mirror.execute(f"SELECT name FROM artist WHERE id = {FIRST}").fetchone()
    packets(1)
    done = follower.once(filters=filters, apply=ApplyOptions(wanted=filters.wanted, events="mb://mirror"))
    assert done.packets == 1
    assert mirror.execute(f"SELECT name FROM artist WHERE id = {FIRST}").fetchone() == before
    assert follower.said[0].endswith("does not have: schema statistic, musicbrainz.no_such.")
    assert done.details[0]["ignored"] == {"musicbrainz.artist": 1}
    assert follower.said[2:] == ["  Skipped, as the filters say: musicbrainz.artist (1)."]


def test_what_has_no_table_here_is_told_apart_from_what_is_filtered(
    mirror: Connection, packets: Make, follower: Follower
) -> None:
    mirror.execute("ALTER TABLE artist RENAME TO gone")
    packets(1)
    follower.once()
    assert follower.said[1:] == ["  Skipped, as this mirror does not have these tables: musicbrainz.artist (1)."]


def test_hooks_run_after_each_packet(mirror: Connection, packets: Make, follower: Follower, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    told = tmp_path / "told"
    for name, body in {
        "10-tell": f'echo "first $1 $REPLICATION_SEQUENCE $REPLICATION_ACCESS_TOKEN" >> {told}',
        "20-fail": "exit 3",
        "30-hang": "sleep 60",
        "40-tell": f'echo "last $1" >> {told}',
        "not-executable": f"echo never >> {told}",
    }.items():
        (hooks / name).write_text(f"#!/bin/sh\n{body}\n")
        (hooks / name).chmod(0o644 if name.startswith("not") else 0o755)
    packets(2)
    os.environ["REPLICATION_ACCESS_TOKEN"] = "secret"
    try:
        done = follower.once(hooks=hooks, hook_seconds=0.5)
    finally:
        del os.environ["REPLICATION_ACCESS_TOKEN"]
    assert (done.packets, done.hooks_failed) == (2, 4)
    problems: Any = done.details[0]["hook_problems"]
    assert problems[0] == "The hook 20-fail failed with exit code 3. Packet 1 stays applied."
    error = runs(mirror)[0][3]
    assert re.fullmatch(r"The hook 30-hang was killed: .* Packet 2 stays applied. 4 hooks failed in all.", error)
    assert told.read_text() == "first 1 1 \nlast 1\nfirst 2 2 \nlast 2\n"
    assert follower.said[0].endswith("are no hooks, for they are not executable: not-executable.")
    assert "The hook 20-fail failed with exit code 3. Packet 1 stays applied." in follower.said
    assert any("The hook 30-hang was killed" in each for each in follower.said)


def test_a_folder_of_hooks_that_is_none_is_told_before_anything_is_applied(
    mirror: Connection, packets: Make, feed: FeedServer, follower: Follower, tmp_path: Path
) -> None:
    packets(1)
    with pytest.raises(UsageError, match=r"REPLICATION_HOOKS: the folder .* cannot be read: No such file"):
        follower.once(hooks=tmp_path / "none")
    with pytest.raises(UsageError, match="REPLICATION_HOOKS"):
        follower.syncer().follow()
    assert (sequence(mirror), feed.asked) == (0, [])


def test_a_folder_of_hooks_that_goes_away_stops_no_packet(
    mirror: Connection, packets: Make, follower: Follower, tmp_path: Path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "10-last").write_text(f"#!/bin/sh\nrm -r {hooks}\n")
    (hooks / "10-last").chmod(0o755)
    packets(2)
    assert follower.once(hooks=hooks).packets == 2
    assert any("cannot be read: No such file or directory. Packet 2 stays applied." in each for each in follower.said)


def test_only_what_is_signed_by_the_right_key_is_applied(
    mirror: Connection, packets: Make, folder: Path, follower: Follower, tmp_path: Path
) -> None:
    packets(2)
    packet = folder / "replication-1-v2.tar.bz2"
    key, sign = a_key(tmp_path / "key")
    _, sign_as_another = a_key(tmp_path / "another")
    with pytest.raises(SignatureError, match="has no signature"):
        follower.once(key=key)
    sign_as_another(packet)
    with pytest.raises(SignatureError, match=r"is not good: it is of another key \([0-9A-F]{16}\) than the one in"):
        follower.once(key=key)
    sign(packet)
    other = folder / "replication-2-v2.tar.bz2"
    (folder / f"{other.name}.asc").write_text((folder / f"{packet.name}.asc").read_text())
    with pytest.raises(SignatureError, match=r"replication-2-v2.tar.bz2 is not good: it is of other bytes \(BADSIG\)"):
        follower.once()
    assert sequence(mirror) == 1
    with pytest.raises(UsageError, match="no armoured public key"):
        follower.once(key=packet)
    with pytest.raises(UsageError, match=r"REPLICATION_GPG_KEY: .*none cannot be read: No such file"):
        follower.once(key=tmp_path / "none")
    sign(other)
    assert follower.once(key=key).packets == 1


def a_key(home: Path) -> tuple[Path, Callable[[Path], None]]:
    """A public key's file, and what signs with its other half."""
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes", "--passphrase", "", "--pinentry-mode=loopback"]

    def run(*arguments: str) -> bytes:
        return subprocess.run([*gpg, *arguments], check=True, capture_output=True, timeout=60).stdout

    run("--quick-generate-key", "feed@example.org", "ed25519", "sign", "never")
    public = home / "public.asc"
    public.write_bytes(run("--armor", "--export"))

    def sign(packet: Path) -> None:
        run("--armor", "--detach-sign", "--output", f"{packet}.asc", str(packet))

    return public, sign


def test_a_paused_mirror_goes_on_once_resumed(mirror: Connection, packets: Make, follower: Follower) -> None:
    packets(1)
    assert Mirror(mirror).pause(True)
    with following(follower):
        wait_for(lambda: any("Paused" in each for each in follower.said))
        assert sequence(mirror) == 0
        Mirror(mirror).pause(False)
        wait_for(lambda: sequence(mirror) == 1)


def test_who_follows_stands_by_and_takes_over(mirror: Connection, packets: Make, follower: Follower) -> None:
    packets(1)
    mirror.execute("SELECT pg_advisory_lock(%s)", (SYNC_KEY,))
    with following(follower):
        wait_for(lambda: any("standing by" in each for each in follower.said))
        assert sequence(mirror) == 0
        mirror.execute("SELECT pg_advisory_unlock(%s)", (SYNC_KEY,))
        wait_for(lambda: sequence(mirror) == 1)


def test_who_follows_waits_for_servers_that_are_away(
    mirror: Connection, packets: Make, feed: FeedServer, follower: Follower
) -> None:
    packets(1)
    feed.faults += [feed.status(500)] * 8
    with capture_logs() as logged, following(follower):
        wait_for(lambda: any("status 500" in each for each in follower.said))
        wait_for(lambda: sequence(mirror) == 1)
        mirror.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s",
            (SYNC_KEY & 0xFFFFFFFF,),
        )
        packets(1)
        wait_for(lambda: sequence(mirror) == 2)
    # The same is not said again, but that it is over.
    assert len([each for each in follower.said if "status 500" in each]) == 1
    assert "What was in the way is over; going on." in follower.said
    warned = [each for each in logged if each["log_level"] == "warning" and "status 500" in str(each)]
    assert [each["event"] for each in warned] == ["sync_interrupted"]


def test_who_syncs_once_is_told_of_each_try(packets: Make, feed: FeedServer, follower: Follower) -> None:
    packets(1)
    feed.faults += [feed.status(503)]
    follower.once()
    assert re.fullmatch(
        r"The feed at 127.0.0.1:\d+ did not give replication-1-v2.tar.bz2: .* status 503. Trying again in 0.01 s.",
        follower.said[0],
    )


def test_a_refused_token_ends_also_who_follows(mirror: Connection, packets: Make, follower: Follower) -> None:
    follower.token = "wrong"
    with pytest.raises(RefusedError):
        follower.syncer().follow()
    assert "REPLICATION_ACCESS_TOKEN" in runs(mirror)[0][3]


def test_asked_to_end_it_finishes_the_packet_or_rolls_it_back(
    mirror_url: str, mirror: Connection, packets: Make, follower: Follower
) -> None:
    packets(2)
    follower.options = replace(follower.options, grace=60.0)
    with psycopg.connect(mirror_url) as editor:
        # Whoever applies the packet waits for this row.
        editor.execute(f"SELECT 1 FROM artist WHERE id = {FIRST} FOR UPDATE")
        with following(follower):
            wait_for(lambda: waiting(mirror))
            follower.stop.set()
            editor.rollback()
            wait_for(lambda: sequence(mirror) == 1)
        assert sequence(mirror) == 1
        assert runs(mirror)[-1] == (0, 1, 1, None, True)
        follower.stop.clear()
        editor.execute(f"SELECT 1 FROM artist WHERE id = {FIRST} FOR UPDATE")
        with following(follower):
            wait_for(lambda: waiting(mirror))
            follower.stop.set()
            follower.hurry.set()
            wait_for(lambda: any("Packet 2 was rolled back" in each for each in follower.said))
    assert sequence(mirror) == 1
    assert "Packet 2 was rolled back" in runs(mirror)[-1][3]
    follower.stop.clear()
    follower.hurry.clear()
    assert follower.once().packets == 1


def test_a_packet_that_takes_too_long_to_finish_is_rolled_back(
    mirror_url: str, mirror: Connection, packets: Make, follower: Follower
) -> None:
    packets(1)
    follower.options = replace(follower.options, grace=0.2)
    with psycopg.connect(mirror_url) as editor:
        editor.execute(f"SELECT 1 FROM artist WHERE id = {FIRST} FOR UPDATE")
        with following(follower):
            wait_for(lambda: waiting(mirror))
    assert any("Packet 1 was rolled back" in each for each in follower.said)
    assert sequence(mirror) == 0


def test_a_pass_that_was_killed_is_closed_by_the_next(mirror: Connection, packets: Make, follower: Follower) -> None:
    mirror.execute("INSERT INTO mbevents.sync_run (from_sequence, to_sequence) VALUES (0, 0)")
    packets(1)
    follower.once()
    assert [(error, ended) for *_, error, ended in runs(mirror)] == [
        ("It was killed, or lost its database.", True),
        (None, True),
    ]


def waiting(connection: Connection) -> bool:
    return (
        connection.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchone()
        is not None
    )


class following:  # noqa: N801 (reads as a verb)
    """Follows in a thread, for the length of a block."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._thread = threading.Thread(target=follower.syncer().follow)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._follower.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
