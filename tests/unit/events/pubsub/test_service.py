"""Whatever is or is not heard on the channels, what is followed is the log."""

import itertools
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import closing, nullcontext
from typing import Any, cast

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

import events
from events.errors import UsageError
from events.log import service as event_log
from events.pubsub import service
from events.pubsub.core import PositionAheadError
from events.pubsub.listening import Timing
from schemas.envelope import Event, full_type

QUICK = Timing(poll=0.002, ask=0.005, deaf=0.05, longest_pause=0.002)


def event(position: int, name: str) -> Event:
    return Event(f"id-{position}", full_type(name), "/db", "edit/1", "2026-05-01T00:00:00Z", position, {})


class Log:
    """What PostgreSQL has, in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def head(self, _: object) -> event_log.Head:
        return event_log.Head(len(self.events), 0)

    def window(
        self, _: object, *, after: int, limit: int, types: list[str] | None
    ) -> tuple[int, list[tuple[int, Event | None]]]:
        found = self.events[after : after + limit]
        return len(self.events), [(e.sequence, e if types is None or e.name in types else None) for e in found]


class Channels:
    """A client whose subscriptions hear what the test says, and break when it says so."""

    def __init__(self) -> None:
        self.messages: deque[Any] = deque()
        self.connection_pool = self
        self.connection_kwargs: dict[str, Any] = {}
        self._canary = b""

    def pubsub(self) -> "Channels":
        return self

    def __enter__(self) -> "Channels":
        return self

    def __exit__(self, *_: object) -> None: ...

    def psubscribe(self, *_: str) -> None: ...

    def subscribe(self, *channels: str) -> None:
        if "canary" in channels[0]:
            self._canary = channels[0].encode()
            self.messages.append({"type": "subscribe", "channel": self._canary, "data": 1})

    def get_message(self, **_: float) -> Any:
        try:
            message = self.messages.popleft()
        except IndexError:
            time.sleep(0.0005)
            return None
        if isinstance(message, Exception):
            raise message
        return message

    def connection_class(self) -> "Channels":
        return self

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def read_response(self) -> None: ...

    def send_command(self, *_: object) -> None:
        self.messages.append({"type": "message", "channel": self._canary, "data": b""})


MESSAGES = st.one_of(
    st.builds(lambda n, name: event(n, name).to_json(), st.integers(-5, 2**70), st.sampled_from(["edit.opened"])),
    st.binary(max_size=20),
    st.sampled_from([redis.ConnectionError("lost"), TimeoutError("slow"), ValueError("garbage")]),
)
APPENDED = st.lists(st.sampled_from(["edit.opened", "edit.closed", "edit.voted"]), max_size=9)
# What is appended, what is heard, and how many are then asked for.
STEPS = st.lists(st.tuples(APPENDED, st.lists(MESSAGES, max_size=4), st.integers(0, 20)), max_size=6)
TYPES = st.sampled_from([None, ["edit.opened"], ["edit.closed", "edit.voted"]])


@settings(max_examples=60, deadline=None)
@given(STEPS, TYPES, st.integers(0, 5), st.none() | st.integers(0, 5))
def test_whatever_is_heard_lost_repeated_or_forged_what_is_followed_is_the_log(
    steps: list[tuple[list[str], list[Any], int]], types: list[str] | None, before: int, after: int | None
) -> None:
    log, channels = Log(), Channels()
    log.events += [event(n + 1, "edit.opened") for n in range(before)]
    after = None if after is None else min(after, before)
    positions = itertools.count(before + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "event_log", log)
        patch.setattr(service, "READ_EVENTS", 4)
        found = follow(log, channels, after=after, types=types)
        start = before if after is None else after
        with closing(cast(Any, found)):
            seen: list[Event] = []
            for names, messages, most in steps:
                log.events += [event(next(positions), name) for name in names]
                channels.messages += [
                    each if isinstance(each, Exception) else {"type": "message", "channel": b"c", "data": each}
                    for each in messages
                ]
                wanted = [e for e in log.events[start:] if types is None or e.name in types]
                # It blocks when there is no more: whatever comes beyond what is wanted comes in a later step.
                seen += itertools.islice(found, min(most, len(wanted) - len(seen)))
                assert seen == wanted[: len(seen)]
            log.events.append(event(next(positions), (types or ["edit.opened"])[0]))
            wanted = [e for e in log.events[start:] if types is None or e.name in types]
            assert seen + list(itertools.islice(found, len(wanted) - len(seen))) == wanted


def follow(log: Log, channels: Channels, **options: Any) -> Any:
    return events.follow(cast(Any, nullcontext), cast("redis.Redis", channels), namespace="MB", timing=QUICK, **options)


def test_it_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    log, stop = Log(), threading.Event()
    monkeypatch.setattr(service, "event_log", log)
    log.events += [event(1, "edit.opened"), event(2, "edit.opened")]
    found = follow(log, Channels(), after=0, stop=stop)
    assert next(found).sequence == 1
    stop.set()
    assert list(found) == []


def test_what_makes_no_sense_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    monkeypatch.setattr(service, "event_log", log)
    with pytest.raises(UsageError, match="not after -1"):
        follow(log, Channels(), after=-1)
    with pytest.raises(UsageError, match=r"no event type 'edit\.opend'"):
        follow(log, Channels(), types=["edit.opend"])
    with pytest.raises(PositionAheadError):
        follow(log, Channels(), after=2**70)


def test_the_package_itself_has_nothing_else() -> None:
    with pytest.raises(AttributeError):
        _ = events.__getattr__("folow")


def test_importing_the_package_imports_nothing_until_it_is_asked_for() -> None:
    asked = "import sys, events; print('psycopg' in sys.modules); events.follow; print('psycopg' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "True"]
