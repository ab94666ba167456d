"""The state of replication, from wherever it is to be had. Other servers that are away are a part of it, no error."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from workers.replication.status.core import (
    Answer,
    Control,
    Incoming,
    Mode,
    Outgoing,
    Status,
    next_run,
    status_of_master,
    status_of_mirror,
    status_of_standalone,
)


class Clock(Protocol):
    @property
    def now(self) -> datetime: ...
    @property
    def scheduled(self) -> bool: ...


class Known(Protocol):
    """What the database knows."""

    def clock(self) -> Clock: ...
    def control(self) -> Control: ...
    def incoming(self) -> Incoming: ...
    def outgoing(self) -> Outgoing: ...


class StatusReader:
    """Reads the state of a database of this mode. For many threads.

    `upstream` tells a mirror the newest packet that there is, `stored` a master how many are in its store. `interval`:
    seconds from one run to the next, for as long as somebody does them. `clean` makes errors fit to be shown.
    """

    def __init__(
        self,
        mode: Mode,
        known: Callable[[], AbstractContextManager[Known]],
        *,
        upstream: Callable[[], Answer[int]],
        stored: Callable[[], Answer[int]],
        interval: float,
        clean: Callable[[str], str],
    ) -> None:
        self._mode = mode
        self._known = known
        self._upstream = upstream
        self._stored = stored
        self._interval = interval
        self._clean = clean

    def read(self) -> Status:
        """Raises psycopg.Error when the database does not answer."""
        with self._known() as known:
            clock, control = known.clock(), known.control()
            incoming = known.incoming() if self._mode == "RT_MIRROR" else None
            outgoing = known.outgoing() if self._mode == "RT_MASTER" else None
        # What comes from elsewhere may take its time: no connection is held meanwhile.
        if incoming is not None:
            runs = tuple(replace(run, error=self._shown(run.error)) for run in incoming.runs)
            interval = self._interval if incoming.running else None
            return status_of_mirror(
                clock.now,
                control,
                replace(incoming, runs=runs),
                self._upstream(),
                next_run_at=next_run(incoming.succeeded_at, interval, clock.now),
            )
        if outgoing is not None:
            interval = self._interval if clock.scheduled else None
            return status_of_master(
                clock.now,
                control,
                replace(outgoing, error=self._shown(outgoing.error)),
                self._stored(),
                scheduled=clock.scheduled,
                next_run_at=next_run(control.replicated_at, interval, clock.now),
            )
        return status_of_standalone(clock.now, control)

    def _shown(self, error: str | None) -> str | None:
        return None if error is None else self._clean(error)
