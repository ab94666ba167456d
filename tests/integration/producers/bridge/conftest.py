"""A database with everything installed, a publisher that remembers, and a bridge to run."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import psycopg
import pytest

from events.ledger.collecting import Work
from events.log.service import Logged
from events.telemetry import NoTelemetry
from producers.bridge.publishing import PublishFailedError
from producers.bridge.service import Bridge, BridgeOptions

OPTIONS = BridgeOptions(source="mb://test")


@dataclass
class RecordingPublisher:
    """Remembers what was published; while `away`, it refuses like a Redis that is down."""

    events: list[Logged] = field(default_factory=list)
    work: list[tuple[Work, list[bytes]]] = field(default_factory=list)
    away: bool = False
    refused: int = 0

    def publish(self, events: Sequence[Logged], work: Sequence[tuple[Work, list[bytes]]]) -> None:
        if self.away:
            self.refused += 1
            raise PublishFailedError("Redis is away.")
        self.events += events
        self.work += work

    @property
    def positions(self) -> list[int]:
        return [event.position for event in self.events]

    def bodies(self, name: str) -> list[dict[str, Any]]:
        return [orjson.loads(event.body) for event in self.events if event.name == name]


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def bridge(captured: str, publisher: RecordingPublisher) -> Callable[..., Bridge]:
    def make(**options: Any) -> Bridge:
        return Bridge(captured, publisher, options=replace(OPTIONS, **options), telemetry=NoTelemetry())

    return make


@pytest.fixture
def editor(captured: str) -> Iterator[psycopg.Connection]:
    """Somebody who edits; autocommit."""
    with psycopg.connect(captured, autocommit=True) as connection:
        yield connection


@contextmanager
def running(bridge: Bridge) -> Iterator[None]:
    stop = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            bridge.run(stop)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    if failed:
        raise failed[0]
