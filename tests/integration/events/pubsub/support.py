"""A log that is written and published, and followers of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

import psycopg
import redis

import events
from events.channels import event_channel
from events.log import service as event_log
from events.log.service import Logged
from events.pubsub.listening import Timing
from events.queues.broker import connect_redis
from schemas.envelope import Draft, Event
from tests.waiting import wait_for

# As in life, but quicker, so that what is waited for comes soon.
TIMING = Timing(poll=0.2, ask=0.1, deaf=0.3, longest_pause=0.2)
# The log is not looked at by itself: what comes soon was heard.
HEARING = Timing(poll=60)


class Log:
    """Writes events to the log, as a bridge does."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self.connection = connection

    @property
    def head(self) -> int:
        return event_log.head(self.connection).position

    def append(self, *names: str, recorded_at: datetime | None = None) -> list[Logged]:
        with self.connection.transaction():
            after = self.head
            drafts = [
                Draft(f"id-{n}", name, f"edit/{n}", "2026-05-01T00:00:00Z", 700 + n, {"id": n})
                for n, name in enumerate(names, after + 1)
            ]
            when = recorded_at or datetime.now(UTC)
            logged = list(event_log.append(self.connection, drafts, source="/db", after=after, recorded_at=when))
            event_log.advance(self.connection, after + len(drafts), after=after)
        return logged


def publish(url: str, *logged: Logged) -> int:
    """How many heard the last one."""
    with redis.Redis.from_url(url) as client:
        return [int(client.publish(event_channel("MB", each.name), each.body)) for each in logged][-1]


class Follower:
    """Follows in a thread: what came of it, and what it was told."""

    def __init__(self, database_url: str, redis_url: str, *, timing: Timing = TIMING, **options: Any) -> None:
        self.seen: list[Event] = []
        self.told: list[str] = []
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._client = connect_redis(redis_url)

        @contextmanager
        def connect() -> Iterator["psycopg.Connection[Any]"]:
            with psycopg.connect(database_url, autocommit=True) as connection:
                yield connection

        self._found = events.follow(
            connect,
            self._client,
            namespace="MB",
            stop=self._stop,
            told=self.told.append,
            timing=timing,
            **options,
        )
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)
        self._client.close()
        assert not self._thread.is_alive(), "it does not stop"

    @property
    def positions(self) -> list[int]:
        return [event.sequence for event in self.seen]

    def _run(self) -> None:
        try:
            for event in self._found:
                self.seen.append(event)
        except Exception as error:
            self.error = error


def wait_for_listeners(client: "redis.Redis", number: int = 1) -> None:
    """Until so many listen, to all that they want to hear: their canary is what they subscribe to last."""
    wait_for(lambda: len(client.pubsub_channels("MB:canary:*")) >= number)
