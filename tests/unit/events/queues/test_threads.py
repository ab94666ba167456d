"""The threads beside a worker's own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import redis
from dramatiq.errors import ConnectionClosed

from events.queues.threads import Pulse, Wakeups


class Listener:
    """A subscription whose messages the test gives; `answers` says whether a ping is answered."""

    def __init__(self, messages: list[dict[str, Any]], *, answers: bool) -> None:
        self._messages = [{"type": "subscribe"}, *messages]
        self._answers = answers

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None: ...

    def subscribe(self, _: str) -> None: ...

    def get_message(self, timeout: float) -> dict[str, Any] | None:
        if self._messages:
            return self._messages.pop(0)
        time.sleep(timeout)
        return None

    def ping(self) -> None:
        if self._answers:
            self._messages.append({"type": "pong"})


class Client:
    def __init__(self, listen: Callable[[], Listener]) -> None:
        self._listen = listen
        self.subscriptions = 0

    def pubsub(self) -> Listener:
        self.subscriptions += 1
        return self._listen()

    def publish(self, *_: object) -> None: ...


@contextmanager
def listening(listen: Callable[[], Listener]) -> Iterator[tuple[Wakeups, Client]]:
    client = Client(listen)
    wakeups = Wakeups(cast("redis.Redis", client), "wake", ping_seconds=0.05)
    try:
        yield wakeups, client
    finally:
        wakeups.stop()


def test_a_queue_is_woken_by_its_name() -> None:
    with listening(lambda: Listener([{"type": "message", "data": b"a"}], answers=True)) as (wakeups, _):
        woken, other = wakeups.event("a"), wakeups.event("b")
        assert woken.wait(5)
        # Both are, once, when listening began; the name alone does it after that.
        other.clear()
        wakeups.wake("a")
        assert not other.is_set()


def test_a_server_that_answers_pings_is_healthy() -> None:
    with listening(lambda: Listener([], answers=True)) as (wakeups, client):
        assert wakeups.event("a").wait(5)
        time.sleep(0.3)
        assert wakeups.healthy
        assert client.subscriptions == 1


def test_a_server_that_went_away_without_a_word_is_left_and_everybody_looks_by_himself() -> None:
    with listening(lambda: Listener([], answers=False)) as (wakeups, client):
        woken = wakeups.event("a")
        assert woken.wait(5)
        woken.clear()
        assert woken.wait(5)
        assert not wakeups.healthy
        deadline = time.monotonic() + 5
        while client.subscriptions < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_server_that_refuses_is_asked_again() -> None:
    def refuse() -> Listener:
        raise redis.ConnectionError("refused")

    with listening(refuse) as (wakeups, client):
        wakeups.event("a")
        deadline = time.monotonic() + 5
        while client.subscriptions < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not wakeups.healthy


@pytest.mark.parametrize("asked_for", [0.01, float("inf")])
def test_the_pulse_beats_in_time_and_sooner_when_asked_to(asked_for: float) -> None:
    beats: list[float] = []
    enough = threading.Event()

    def beat() -> float:
        beats.append(time.monotonic())
        if len(beats) == 5:
            enough.set()
        return asked_for

    pulse = Pulse(beat, seconds=0.1)
    pulse.start()
    assert enough.wait(5)
    pulse.stop()
    assert (beats[4] - beats[0] >= 0.3) == (asked_for > 1)


def test_the_pulse_goes_on_when_the_broker_was_away() -> None:
    beats: list[int] = []
    enough = threading.Event()

    def beat() -> float:
        beats.append(1)
        if len(beats) == 3:
            enough.set()
        raise ConnectionClosed("away")

    pulse = Pulse(beat, seconds=0.02)
    pulse.start()
    assert enough.wait(5)
    pulse.stop()


def test_the_pulse_beats_at_once_when_told_to() -> None:
    again = threading.Event()
    beats: list[int] = []

    def beat() -> float:
        beats.append(1)
        if len(beats) == 2:
            again.set()
        return float("inf")

    pulse = Pulse(beat, seconds=30)
    pulse.start()
    while not beats:
        time.sleep(0.01)
    pulse.soon()
    assert again.wait(5)
    pulse.stop()
