import os
import queue
import signal
import threading
import time
from pathlib import Path

import pytest
import redis

import ops.stack
from events.channels import event_channel
from events.queues.broker import connect_redis
from ops.following import follow
from schemas.envelope import Event, full_type
from tests.chaos.bridge.proxy import Proxy
from tests.waiting import wait_for


def event(number: int, name: str = "edit.opened") -> Event:
    return Event(str(number), full_type(name), "/db", "edit/1", "2026-05-01T00:00:00Z", number, {})


def started(url: str, names: list[str] | None, ask_seconds: float = 5.0) -> tuple["queue.Queue[Event]", list[str]]:
    """Follow in a thread, which ends with the tests: what it saw, and what it was told."""
    seen: queue.Queue[Event] = queue.Queue()
    told: list[str] = []
    client = connect_redis(url)

    def run() -> None:
        for each in follow(client, "MB", names, told=told.append, ask_seconds=ask_seconds):
            seen.put(each)

    with redis.Redis.from_url(url) as other:
        before = listeners(other)
        threading.Thread(target=run, daemon=True).start()
        deadline = time.monotonic() + 10
        while listeners(other) == before:
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)
    return seen, told


def listeners(client: "redis.Redis") -> int:
    channel = event_channel("MB", "edit.opened")
    ((_, subscribers),) = client.pubsub_numsub(channel)
    return int(subscribers) + int(client.pubsub_numpat())


def publish(url: str, *events: Event) -> None:
    with redis.Redis.from_url(url) as client:
        for each in events:
            deadline = time.monotonic() + 10
            while not client.publish(event_channel("MB", each.name), each.to_json()):
                assert time.monotonic() < deadline, "nobody listens"
                time.sleep(0.05)


def test_events_are_followed_by_type_and_what_is_none_is_passed_over(
    tmp_path: Path, redis_server: ops.stack.Stack
) -> None:
    url = redis_server.redis_url(5)
    some, _ = started(url, ["edit.opened"])
    everything, _ = started(url, None)
    publish(url, event(1))
    with redis.Redis.from_url(url) as client:
        client.publish(event_channel("MB", "edit.opened"), b"nonsense")
        client.publish(event_channel("MB", "edit.opened"), b'{"id": 1}')
    publish(url, event(2, "edit.closed"), event(3))
    assert [some.get(timeout=5).sequence for _ in range(2)] == [1, 3]
    assert sorted(everything.get(timeout=5).sequence for _ in range(3))[-1] == 3


def test_it_comes_back_when_redis_does_and_says_so(home: Path) -> None:
    servers = ops.stack.start(home, postgres=False)
    url = servers.redis_url(5)
    seen, told = started(url, None)
    publish(url, event(1))
    assert seen.get(timeout=5).sequence == 1
    assert servers.redis is not None
    servers.redis.stop()
    deadline = time.monotonic() + 10
    while not told and time.monotonic() < deadline:
        time.sleep(0.05)
    assert told[0].startswith("Redis went away")
    servers.redis.start()
    publish(url, event(2))
    assert seen.get(timeout=10).sequence == 2
    assert "Redis is back" in told[1]
    servers.close()


def test_a_redis_that_answers_is_not_taken_for_silent_and_one_that_was_stopped_is(home: Path) -> None:
    servers = ops.stack.start(home, postgres=False)
    url = servers.redis_url(5)
    seen, told = started(url, None, ask_seconds=0.1)
    with redis.Redis.from_url(url) as client:
        wait_for(lambda: client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) >= 5)
    assert told == []
    assert servers.redis is not None
    pid = servers.redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: told)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert told[0].startswith("Redis went away (ConnectionError)")
    publish(url, event(1))
    assert seen.get(timeout=10).sequence == 1
    assert "Redis is back" in told[1]
    servers.close()


def test_a_connection_that_is_open_on_our_side_only_is_made_anew(redis_server: ops.stack.Stack) -> None:
    proxy = Proxy(redis_server.redis_url().removeprefix("unix://").partition("?")[0])
    try:
        seen, told = started(f"redis://127.0.0.1:{proxy.port}/5", ["edit.opened"], ask_seconds=0.1)
        proxy.freeze()
        wait_for(lambda: len(told) == 2)
        publish(redis_server.redis_url(5), event(1))
        assert seen.get(timeout=10).sequence == 1
    finally:
        proxy.close()


def test_a_redis_that_was_never_there_is_an_error() -> None:
    client = connect_redis("unix:///nonexistent/redis.sock")
    with pytest.raises(redis.ConnectionError):
        next(follow(client, "MB", None, told=lambda _: None))
