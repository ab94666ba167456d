"""The servers around a running bridge are killed, stopped, restarted and go silent."""

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis

import ops.stack
from events.log import service as event_log
from events.telemetry import NoTelemetry
from ops.stack import Stack
from producers.bridge.service import Bridge, BridgeOptions
from tests.chaos.bridge.drain import opened_bridge
from tests.conftest import quick_folder
from tests.integration.producers.bridge.conftest import RecordingPublisher, running
from tests.proxy import Proxy
from tests.waiting import wait_for

RENAME = "UPDATE artist SET name = name || '!' WHERE id = (SELECT min(id) FROM artist)"
OPTIONS = BridgeOptions(source="mb://chaos", probe=0.5, answer=2.0)


@pytest.fixture
def own_stack() -> Iterator[Stack]:
    """Servers that this test may kill."""
    with tempfile.TemporaryDirectory(prefix="mbe-", dir=quick_folder()) as home:
        os.chmod(home, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        with ops.stack.start(Path(home), durable=False) as stack:
            ops.stack.ensure_musicbrainz(stack, progress=lambda _: None)
            from producers.capture.service import install

            install(stack.database_url())
            yield stack


def test_a_connection_that_goes_silent_is_found_out_and_made_again(captured: str) -> None:
    folder = parse_qs(urlsplit(captured).query)["host"][0]
    proxy = Proxy(f"{folder}/.s.PGSQL.5432")
    publisher = RecordingPublisher()
    name = urlsplit(captured).path
    bridge = Bridge(
        f"postgresql://postgres@127.0.0.1:{proxy.port}{name}", publisher, options=OPTIONS, telemetry=NoTelemetry()
    )
    try:
        with running(bridge), psycopg.connect(captured, autocommit=True) as editor:
            for edits in (2, 4, 6):
                wait_for(lambda: bridge.status.leading)
                editor.execute(RENAME)
                _hear(publisher, edits - 1)
                proxy.freeze()
                editor.execute(RENAME)
                began = time.monotonic()
                # Found out by the probe; the session that the server still believes alive is ended.
                _hear(publisher, edits)
                assert time.monotonic() - began < 5
    finally:
        proxy.close()


def test_postgres_killed_or_stopped_and_back_loses_nothing(own_stack: Stack) -> None:
    server = own_stack.postgres
    assert server is not None
    publisher = RecordingPublisher()
    bridge = Bridge(own_stack.database_url(), publisher, options=OPTIONS, telemetry=NoTelemetry())
    edits = 0
    with running(bridge):
        for way in (signal.SIGKILL, signal.SIGSTOP, signal.SIGQUIT, signal.SIGKILL):
            wait_for(lambda: bridge.status.leading, seconds=20)
            edits += _edit(own_stack, 3)
            pid = server.pid
            assert pid is not None
            os.kill(pid, way)
            if way == signal.SIGSTOP:
                time.sleep(1)
                os.kill(pid, signal.SIGCONT)
            else:
                wait_for(lambda: server.pid is None)
                server.start()
            began = time.monotonic()
            edits += _edit(own_stack, 3)
            _hear(publisher, edits, seconds=20)
            assert time.monotonic() - began < 10
    ids = {event.position: event.body for event in publisher.events}
    assert sorted(ids) == list(range(1, edits + 1))
    assert all(ids[event.position] == event.body for event in publisher.events)


def test_redis_killed_and_back_gets_everything(own_stack: Stack) -> None:
    store = own_stack.redis
    assert store is not None
    heard: set[str] = set()
    stop = threading.Event()
    listener = threading.Thread(target=_listen, args=(own_stack.redis_url(5), heard, stop))
    listener.start()
    try:
        with (
            opened_bridge(own_stack.database_url(), own_stack.redis_url(5), own_stack.redis_url(6), OPTIONS) as bridge,
            running(bridge),
            psycopg.connect(own_stack.database_url(), autocommit=True) as database,
        ):
            for n in range(1, 4):
                wait_for(lambda: _subscribed(own_stack.redis_url(5)))
                _edit(own_stack, 2)
                wait_for(lambda: _published(database))
                # Nobody hears what is published before they are back; what was while all was well, everybody did.
                wait_for(lambda n=n: {n * 4 - 3, n * 4 - 2} <= _positions(heard))  # type: ignore[misc]
                pid = store.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                _edit(own_stack, 2)
                wait_for(lambda n=n: event_log.head(database).position == n * 4)  # type: ignore[misc]
                store.start()
                wait_for(lambda: _published(database), seconds=5)
                # What was committed while Redis was away is in the queue of the Redis that is there now.
                late = database.execute(
                    "SELECT id::text FROM mbevents.task WHERE positions[cardinality(positions)] > %s", (n * 4 - 2,)
                ).fetchall()
                assert late
                with redis.Redis.from_url(own_stack.redis_url(6), decode_responses=True) as client:
                    assert {task for (task,) in late} <= set(client.hkeys("MB:caches.msgs"))
    finally:
        stop.set()
        listener.join()


def _hear(publisher: RecordingPublisher, positions: int, *, seconds: float = 10) -> None:
    wait_for(lambda: len({event.position for event in publisher.events}) == positions, seconds=seconds)


def _subscribed(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return int(client.pubsub_numpat()) > 0


def _positions(heard: set[str]) -> set[int]:
    return {int(json.loads(body)["sequence"]) for body in list(heard)}


def _published(database: psycopg.Connection) -> bool:
    head = event_log.head(database)
    return head.position > 0 and head.published == head.position


def _edit(stack: Stack, times: int) -> int:
    """Commit so often; a server that just came back may still refuse."""
    deadline = time.monotonic() + 20
    done = 0
    while done < times:
        try:
            with psycopg.connect(stack.database_url(), autocommit=True) as editor:
                editor.execute(RENAME)
                done += 1
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return done


def _listen(url: str, heard: set[str], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with redis.Redis.from_url(url, decode_responses=True) as client, client.pubsub() as channel:
                channel.psubscribe("MB:events:*")
                while not stop.is_set():
                    message = channel.get_message(timeout=0.1)
                    if message and message["type"] == "pmessage":
                        heard.add(message["data"])
        except redis.RedisError:
            time.sleep(0.05)
