"""Answers that are kept: one request for all who ask the same at once, and an old answer rather than none."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from events.errors import UsageError
from events.telemetry import NoTelemetry, Telemetry
from workers.leased.core import Loaded
from workers.leased.flights import Flight, Flights
from workers.leased.service import Leased, ReadThrough, Times

from .core import Answer, CallError, Kind, Request

Ask = Callable[[float], Answer]
"""Makes the request, until a time by the clock. Raises CallError."""

# Renewals of one process at once. Each may wait long for its turn; what is beyond them is renewed by a later reader.
MOST_RENEWALS = 8
# Seconds until what could not be renewed is tried again: who reads an old answer often asks its server no oftener.
RENEWAL_PAUSE = 10.0
# These say something of who asked, or how late, and nothing to who has more time.
_OWN_FAULT = frozenset({Kind.DEADLINE, Kind.LIMITED})


# A year.
_LONGEST = 366 * 86400


@dataclass(frozen=True, slots=True)
class Caching:
    """Seconds: how long an answer is fresh; how long after that it may be given while it is renewed, or when that
    fails; and how long "there is nothing" (404, 410) is believed."""

    fresh: float
    stale: float = 0.0
    negative: float = 60.0

    def __post_init__(self) -> None:
        if not all(0 <= seconds <= _LONGEST for seconds in (self.fresh, self.stale, self.negative)):
            raise UsageError(f"Answers are kept for 0 to {_LONGEST:,} seconds.")


class Answers:
    """Kept in a store that all processes share; without it, one request at a time for each of them.

    Failures are never kept, but given to all who wait for the same. `renewal`: seconds that a renewal in the
    background has, if its caller has less.
    """

    def __init__(
        self,
        leased: Leased,
        *,
        renewal: float = 0.0,
        pause: float = RENEWAL_PAUSE,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._leased = leased
        self._renewal = renewal
        self._pause = pause
        self._telemetry = telemetry or NoTelemetry()
        self._clock = clock
        self._now = now
        self._flights: Flights[Answer | CallError] = Flights()
        self._lock = threading.Lock()
        self._renewing: set[str] = set()
        # What could not be renewed, and when it may be tried again.
        self._failed: dict[str, float] = {}

    def get(self, request: Request, caching: Caching, ask: Ask, *, until: float) -> Answer:
        """What is kept, or what `ask` gets. Raises CallError."""
        while True:
            flight, own = self._flights.join(request.name)
            if own:
                return self._lead(flight, request, caching, ask, until)
            shared = flight.wait(max(0.0, until - self._clock()))
            if shared is not None and isinstance(shared[0], Answer):
                return replace(shared[0], cached=True)
            if shared is not None and isinstance(shared[0], CallError) and shared[0].kind not in _OWN_FAULT:
                raise shared[0].again()
            if self._clock() >= until:
                raise CallError(Kind.DEADLINE, "Another call that asks the same took too long for this one.")

    def _lead(
        self,
        flight: Flight[Answer | CallError],
        request: Request,
        caching: Caching,
        ask: Ask,
        until: float,
    ) -> Answer:
        try:
            answer = self._read(request, caching, ask, until)
        except CallError as error:
            flight.land(error)
            raise
        else:
            flight.land(answer)
            return answer
        finally:
            flight.end()

    def _read(self, request: Request, caching: Caching, ask: Ask, until: float) -> Answer:
        own: list[Answer] = []
        caller, left = threading.get_ident(), max(0.0, until - self._clock())

        def load() -> Loaded:
            # Renewed in the background, it has a time of its own.
            is_renewal = threading.get_ident() != caller
            answer = ask(self._clock() + max(left, self._renewal) if is_renewal else until)
            own.append(answer)
            seconds = caching.fresh if answer.found else caching.negative
            return Loaded(
                _encoded(answer, self._now() + seconds),
                seconds=seconds,
                stale_seconds=caching.stale if answer.found else 0.0,
            )

        # Each call waits for those of other processes as long as it has time, and no longer.
        through = ReadThrough(
            self._leased,
            "http",
            Times(patience=left),
            telemetry=self._telemetry,
            spawn=lambda work: self._renew(request.name, work, own),
        )
        kept = through.get_or_load(request.name, load)
        if own:
            return own[0]
        answer = None if kept is None else _decoded(kept, self._now())
        if answer is None:
            # Of another version of us, or nobody's.
            load()
        return answer or own[0]

    def _renew(self, name: str, work: Callable[[], object], got: list[Answer]) -> None:
        """In the background, once at a time for each name, and few at once; else it stays as it is."""

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._renewing.discard(name)
                    if not got:
                        self._failed[name] = self._clock() + self._pause

        with self._lock:
            now = self._clock()
            self._failed = {each: again for each, again in self._failed.items() if again > now}
            if name in self._renewing or name in self._failed or len(self._renewing) >= MOST_RENEWALS:
                return
            self._renewing.add(name)
        try:
            threading.Thread(target=run, name="http-renewal", daemon=True).start()
        except RuntimeError:
            # Too many threads, or this process ends: what is old is still better than an error.
            self._renewing.discard(name)


def _encoded(answer: Answer, fresh_until: float) -> bytes:
    head = {"status": answer.status, "headers": dict(answer.headers), "url": answer.url, "fresh_until": fresh_until}
    return orjson.dumps(head) + b"\n" + answer.body


def _decoded(kept: bytes, now: float) -> Answer | None:
    """None for what we did not write."""
    raw, _, body = kept.partition(b"\n")
    try:
        head = orjson.loads(raw)
        stale = now > head["fresh_until"]
        return Answer(head["status"], head["headers"], body, head["url"], cached=True, stale=stale)
    except (ValueError, KeyError, TypeError):
        return None
