"""kill -9 of who brings a mirror up to date, at moments all through its work; and SIGTERM."""

import json
import signal
from pathlib import Path

import psycopg
import pytest

from tests.chaos.forks import FORKS
from tests.chaos.replication.sync_process import sync, sync_and_die
from tests.integration.workers.replication.conftest import Connection
from tests.integration.workers.replication.support import differing, export
from tests.integration.workers.replication.sync.command import environment, start
from tests.integration.workers.replication.sync.feed_server import TOKEN, served
from tests.waiting import wait_for

FIRST = "(SELECT min(id) FROM artist)"


def state(connection: Connection) -> tuple[int, str, int]:
    row = connection.execute(
        "SELECT current_replication_sequence, (SELECT name FROM artist ORDER BY id LIMIT 1), "
        "(SELECT count(*) FROM mbevents.event) FROM replication_control"
    ).fetchone()
    assert row is not None
    sequence, name, events = row
    return sequence, name, events


@pytest.mark.timeout(280)
def test_killed_at_any_moment_a_mirror_is_unchanged_or_a_packet_further(
    master: Connection,
    mirror: Connection,
    mirror_url: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "feed"
    folder.mkdir()
    deaths = 0
    with served(folder) as feed:
        # A step that is prime to two and three: before and after, and each kind of exchange.
        for moment in range(0, 10_000, 7):
            master.execute(f"UPDATE artist SET name = name || '!' WHERE id = {FIRST}")
            export(master, folder)
            before = state(mirror)
            child = FORKS.Process(target=sync_and_die, args=(mirror_url, feed.url, tmp_path / "spool", TOKEN, moment))
            child.start()
            child.join(30)
            assert child.exitcode in (0, -signal.SIGKILL)
            after = state(mirror)
            # The artist's event and the packet's own: both or none.
            further = (before[0] + 1, before[1] + "!", before[2] + 2)
            assert after in (before, further), f"killed at moment {moment}"
            assert sync(mirror_url, feed.url, tmp_path / "spool", TOKEN).packets == further[0] - after[0]
            assert state(mirror) == further
            if child.exitcode == 0:
                break
            deaths += 1
    assert deaths > 5
    assert differing(master, mirror) == []


@pytest.mark.timeout(120)
def test_sigterm_finishes_or_rolls_back_and_a_second_one_does_not_wait(
    master: Connection,
    mirror: Connection,
    mirror_url: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "feed"
    folder.mkdir()
    for _ in range(2):
        master.execute(f"UPDATE artist SET name = name || '!' WHERE id = {FIRST}")
        export(master, folder)

    def waits() -> bool:
        return bool(
            mirror.execute(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
        )

    arguments = ("sync", "--follow", "--json", "--base-url")
    with served(folder) as feed, psycopg.connect(mirror_url) as editor:
        environ = environment(mirror_url, tmp_path)
        editor.execute(f"SELECT 1 FROM artist WHERE id = {FIRST} FOR UPDATE")
        with start(environ, *arguments, feed.url) as process:
            wait_for(waits, seconds=30)
            process.send_signal(signal.SIGTERM)
            editor.rollback()
            out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert json.loads(out)["packets"] == 1, err
        assert state(mirror)[0] == 1
        editor.execute(f"SELECT 1 FROM artist WHERE id = {FIRST} FOR UPDATE")
        with start(environ, *arguments, feed.url) as process:
            wait_for(waits, seconds=30)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=10)
        assert process.returncode == 130, err
        assert "Packet 2 was rolled back" in err
        assert state(mirror)[0] == 1
        editor.rollback()
        assert sync(mirror_url, feed.url, tmp_path / "spool", TOKEN).packets == 1
    assert differing(master, mirror) == []
