"""A sync in a process of its own, killed just before or after its n-th word with the database."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from events.telemetry import NoTelemetry
from ops.private import described
from workers.replication.apply.options import ApplyOptions
from workers.replication.apply.source import open_source
from workers.replication.sync.core import Filters, Pass, parsed_base
from workers.replication.sync.fetch import Feed, FeedOptions
from workers.replication.sync.service import Syncer, SyncOptions
from workers.replication.sync.spool import Spool


def sync(mirror_url: str, feed_url: str, folder: Path, token: str) -> Pass:
    base = parsed_base(feed_url)
    spool = Spool(folder, base.url)
    options = SyncOptions(
        apply=ApplyOptions(events="mb://mirror"),
        filters=Filters(),
        interval=0.1,
        open_source=open_source,
        describe=described,
    )
    return Syncer(
        lambda: psycopg.connect(mirror_url, autocommit=True),
        lambda _: Feed(base, token, spool, FeedOptions("test", 1 << 30), NoTelemetry()),
        spool,
        options,
        stop=threading.Event(),
        hurry=threading.Event(),
        say=lambda _: None,
        telemetry=NoTelemetry(),
    ).once()


def sync_and_die(mirror_url: str, feed_url: str, folder: Path, token: str, moment: int) -> None:
    """Sync; SIGKILL at the given moment. Even moments are before an exchange with the server, odd ones after it."""
    moments = iter(range(10**9))

    def mortal(exchange: Callable[..., Any]) -> Callable[..., Any]:
        def exchanged(*args: Any, **kwargs: Any) -> Any:
            _die_if(next(moments) == moment)
            result = exchange(*args, **kwargs)
            _die_if(next(moments) == moment)
            return result

        return exchanged

    psycopg.Connection.wait = mortal(psycopg.Connection.wait)  # type: ignore[method-assign]
    sync(mirror_url, feed_url, folder, token)


def _die_if(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)
