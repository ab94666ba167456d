"""Before an export: what is committed must be in the event log, as nothing else is exported."""

import threading
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from ops.wiring.sending import Sending

log = structlog.get_logger(__name__)

# A bridge that is further behind than this goes on meanwhile; the rest is the next packet's.
SECONDS = 30.0


def tick(runtime: "Sending") -> None:
    """Have the bridge catch up with this moment: the leading one, or where none leads one of our own."""
    from producers.bridge import progress

    with runtime.connection() as connection:
        moment = progress.now(connection)
        deadline = time.monotonic() + SECONDS
        drain_at = 0.0
        while progress.behind(connection, moment):
            now = time.monotonic()
            if now > deadline:
                log.warning("bridge_is_behind", seconds=SECONDS)
                return
            if now >= drain_at:
                _drain(runtime)
                drain_at = now + 1.0
            else:
                time.sleep(0.02)


def _drain(runtime: "Sending") -> None:
    from producers.bridge.service import AnotherLeadsError

    # It would wait for a Redis that is away, which is no reason not to export.
    stop = threading.Event()
    timer = threading.Timer(SECONDS, stop.set)
    timer.start()
    try:
        # One of its own: another thread of this process may be draining as well, and a bridge is one session.
        runtime.make_bridge().drain(stop)
    except AnotherLeadsError:
        pass
    finally:
        timer.cancel()
