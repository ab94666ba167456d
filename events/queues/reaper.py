"""Returns dead workers' messages to their queues, and takes dead messages from the broker to Postgres."""

import threading
from collections.abc import Collection, Iterable
from typing import Protocol

import structlog

from events.telemetry import NoTelemetry, Telemetry

from .letters import NewDeadLetter, letter_of_corpse
from .types import Corpse, Reaped

log = structlog.get_logger(__name__)

MAX_REDELIVERIES = 3
INTERVAL = 2.0
BATCH = 100


class Graveyard(Protocol):
    """The broker's side: both of our brokers are one."""

    def reap(self, *, max_redeliveries: int) -> Reaped: ...
    def corpses(self, limit: int = ...) -> list[Corpse]: ...
    def forget(self, corpses: Collection[Corpse]) -> None: ...


class Letters(Protocol):
    def bury(self, letters: Iterable[NewDeadLetter]) -> None: ...


class Reaper:
    """Any number of them may run, anywhere."""

    def __init__(
        self,
        broker: Graveyard,
        letters: Letters,
        *,
        telemetry: Telemetry | None = None,
        max_redeliveries: int = MAX_REDELIVERIES,
    ) -> None:
        self._broker = broker
        self._letters = letters
        self._telemetry = telemetry or NoTelemetry()
        self._max_redeliveries = max_redeliveries

    def run_once(self) -> Reaped:
        """Return what dead workers held, then take the dead messages to Postgres."""
        reaped = self._broker.reap(max_redeliveries=self._max_redeliveries)
        if reaped.workers:
            log.warning("dead_workers_reaped", workers=reaped.workers, returned=reaped.returned, buried=reaped.buried)
            self._telemetry.count("mbevents_workers_reaped_total", reaped.workers)
            self._telemetry.count("mbevents_messages_returned_total", reaped.returned)
        if reaped.dead:
            self._move()
        return reaped

    def run(self, stop: threading.Event, *, interval: float = INTERVAL) -> None:
        """Until `stop` is set; outlasts servers that are away."""
        while not stop.is_set():
            try:
                self.run_once()
            except Exception as error:
                # Whatever it was, it must not end this duty. Its kind is enough: its text may quote a row.
                log.warning("reaper_failed", error=type(error).__name__)
            stop.wait(interval)

    def _move(self) -> None:
        while corpses := self._broker.corpses(BATCH):
            # Kept before it is removed: after a crash in between it is moved again, and is one letter all the same.
            self._letters.bury([letter_of_corpse(corpse) for corpse in corpses])
            self._broker.forget(corpses)
