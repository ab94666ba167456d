"""A feed that can misbehave, and who brings a mirror up to date from it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from events.telemetry import NoTelemetry
from ops.private import described
from tests.integration.workers.replication.conftest import Connection
from tests.integration.workers.replication.sync.feed_server import TOKEN, FeedServer, served
from workers.replication.apply.options import ApplyOptions
from workers.replication.apply.source import open_source
from workers.replication.sync.core import Filters, Pass, parsed_base
from workers.replication.sync.fetch import Feed, FeedOptions
from workers.replication.sync.service import Syncer, SyncOptions
from workers.replication.sync.spool import Spool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "feed"
    made.mkdir()
    return made


@pytest.fixture
def feed(folder: Path) -> Iterator[FeedServer]:
    with served(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.replication.sync.core.DELAYS", (0.01, 0.01, 0.01))


@dataclass
class Follower:
    """Syncs one mirror; what it said is in `said`."""

    mirror_url: str
    feed: FeedServer
    spool: Path
    options: SyncOptions
    token: str | None = TOKEN
    stall: float = 5.0
    most_bytes: int = 1 << 30
    said: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    hurry: threading.Event = field(default_factory=threading.Event)

    def syncer(self) -> Syncer:
        base = parsed_base(self.feed.url)
        spool = Spool(self.spool, base.url)
        options = FeedOptions("test", self.most_bytes, self.stall, signed=self.options.key is not None)

        def connect() -> AbstractContextManager[Any]:
            return psycopg.connect(self.mirror_url, autocommit=True)

        return Syncer(
            connect,
            lambda say: Feed(base, self.token, spool, options, NoTelemetry(), say=say),
            spool,
            self.options,
            stop=self.stop,
            hurry=self.hurry,
            say=self.said.append,
            telemetry=NoTelemetry(),
        )

    def once(self, limit: int | None = None, **changed: Any) -> Pass:
        self.options = replace(self.options, **changed)
        return self.syncer().once(limit)


@pytest.fixture
def follower(mirror_url: str, feed: FeedServer, tmp_path: Path) -> Follower:
    filters = Filters()
    options = SyncOptions(
        apply=ApplyOptions(wanted=filters.wanted, events="mb://mirror"),
        filters=filters,
        interval=0.05,
        open_source=open_source,
        describe=described,
    )
    return Follower(mirror_url, feed, tmp_path / "spool", options)


@pytest.fixture
def packets(master: Connection, folder: Path) -> Callable[[int], None]:
    """Makes so many more packets in the feed's folder, each renaming an artist."""
    from tests.integration.workers.replication.support import export

    def make(count: int) -> None:
        for _ in range(count):
            master.execute("UPDATE artist SET name = name || '!' WHERE id = (SELECT min(id) FROM artist)")
            export(master, folder)

    return make
