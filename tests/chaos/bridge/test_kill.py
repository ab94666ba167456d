"""kill -9 of the bridge, at every moment of its work."""

import signal
from collections.abc import Iterator

import psycopg
import pytest
import redis

from events.log import service as event_log
from ops.stack import Stack
from tests.chaos.bridge.drain import drain_and_die, opened_bridge
from tests.chaos.forks import FORKS


@pytest.fixture
def client(redis_server: Stack) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_server.redis_url(6), decode_responses=True) as client:
        yield client


@pytest.mark.timeout(280)
def test_killed_at_any_moment_nothing_is_lost_and_nothing_comes_twice_in_the_log(
    captured: str, redis_server: Stack, client: "redis.Redis"
) -> None:
    url = redis_server.redis_url(6)
    deaths = 0
    with (
        opened_bridge(captured, url, url) as survivor,
        psycopg.connect(captured, autocommit=True) as editor,
        client.pubsub() as listener,  # type: ignore[no-untyped-call]  # redis-py types it nowhere
    ):
        artists = [row[0] for row in editor.execute("SELECT id FROM artist ORDER BY id LIMIT 7").fetchall()]
        listener.psubscribe("MB:events:*")
        listener.get_message(timeout=5)
        for moment in range(1_000):
            before = event_log.head(editor).position
            # Large for a bridge that takes four rows at once: the batch is worked off in parts, which a kill can split.
            editor.execute("UPDATE artist SET name = name || '!' WHERE id = %s", (artists[0],))
            editor.execute("UPDATE artist SET name = name || '!' WHERE id = ANY (%s)", (artists[1:4],))
            editor.execute("UPDATE artist SET name = name || '!' WHERE id = ANY (%s)", (artists[4:],))
            child = FORKS.Process(target=drain_and_die, args=(captured, url, moment))
            child.start()
            child.join(30)
            survivor.drain()
            assert child.exitcode in (0, -signal.SIGKILL)
            deaths += child.exitcode != 0

            events = event_log.read(editor, after=before, limit=99)
            assert sorted(event.data["id"] for event in events) == artists, f"killed at moment {moment}"
            assert [event.sequence for event in events] == list(range(before + 1, before + 8))
            assert event_log.head(editor) == event_log.Head(before + 7, before + 7)
            heard: dict[str, set[str]] = {}
            while message := listener.get_message(timeout=0.01):
                heard.setdefault(message["channel"], set()).add(message["data"])
            # At least once, and a repetition is the same to the letter.
            assert heard == {"MB:events:entity.updated": {event.to_json().decode() for event in events}}
            tasks = editor.execute("SELECT id::text FROM mbevents.task").fetchall()
            assert sorted(client.hkeys("MB:caches.msgs")) == sorted(row[0] for row in tasks), "work and messages differ"
            if child.exitcode == 0:
                break
    assert deaths > 60
