"""Before an export: what is committed must be in the event log, as nothing else is exported."""

import threading
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from ops.wiring import Runtime

log = structlog.get_logger(__name__)

# A bridge that is further behind than this goes on meanwhile; the rest is the next packet's.
SECONDS = 30.0


def tick(runtime: "Runtime") -> None:
    """Have the bridge catch up with this moment: the leading one, or where none leads one of our own."""
    from producers.bridge import progress
    from producers.bridge.service import AnotherLeadsError

    with runtime.connection() as connection:
        moment = progress.now(connection)
        deadline = time.monotonic() + SECONDS
        while progress.behind(connection, moment):
            if time.monotonic() > deadline:
                log.warning("bridge_is_behind", seconds=SECONDS)
                return
            try:
                _drain(runtime)
            except AnotherLeadsError:
                time.sleep(0.02)


def _drain(runtime: "Runtime") -> None:
    # It would wait for a Redis that is away, which is no reason not to export.
    stop = threading.Event()
    timer = threading.Timer(SECONDS, stop.set)
    timer.start()
    try:
        runtime.bridge.drain(stop)
    finally:
        timer.cancel()
