"""Reads through a store of leased entries: one caller loads, the others wait for it, and nothing old is kept.

One implementation, for threads: loads are queries of psycopg and calls of HTTP in threads. From asyncio, give it a
thread: `await asyncio.to_thread(cache.get_or_load, name, load)`.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from logging import DEBUG, WARNING
from typing import NamedTuple, Protocol

import structlog

from events.errors import MbeventsError, UnreachableError
from events.telemetry import NoTelemetry, Telemetry

from .core import Found, Lease, Load, Loaded, is_due
from .flights import Flight, Flights

log = structlog.get_logger(__name__)

# A load that was overtaken by an invalidation is made again by whoever waited for it, but not for ever.
_MOST_TRIES = 20

_Flight = Flight[Loaded | Exception]


class StoreUnavailableError(UnreachableError):
    """The Redis of a cache does not answer. Reading, that is a miss; invalidating, the work is tried again."""


class Taken(NamedTuple):
    """The entry if it is valid; the lease if the caller got it. Neither: somebody else loads it."""

    found: Found | None
    lease: Lease | None


class Leased(Protocol):
    """Where entries are. Every method raises StoreUnavailableError."""

    def read(self, names: Sequence[str]) -> list[Found | None]: ...

    def lease(self, name: str, *, anew: bool = False) -> Taken:
        """`anew`: the lease is wanted although the entry is valid."""
        ...

    def store(self, name: str, lease: Lease, loaded: Loaded, *, seconds: float, cost: float) -> bool:
        """False when the lease is void: what was loaded may be old."""
        ...

    def give_back(self, name: str, lease: Lease) -> None: ...

    def forget(self, names: Sequence[str] = (), tags: Sequence[str] = ()) -> list[int]:
        """Entries and leases of these names, and all entries that have one of the tags. Works when Redis is full.

        Returns how many entries each name had (0 or 1).
        """
        ...


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. `ttl`, and `absent_ttl` of what is not there, each ±10 % so that what was stored together does not
    expire together; `patience`: how long to wait for a load of another process before loading without storing;
    `longest`: the same for one of another thread, longer than loads take: one that hangs must not hang all."""

    ttl: float = 3600
    absent_ttl: float = 45
    patience: float = 0.5
    longest: float = 60.0


class ReadThrough:
    """One cache. `kind` labels its metrics.

    `spawn` runs in the background what loads an entry anew that is still served (None: its caller waits).
    """

    def __init__(
        self,
        leased: Leased,
        kind: str,
        times: Times = Times(),
        *,
        telemetry: Telemetry | None = None,
        spawn: Callable[[Callable[[], object]], object] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leased = leased
        self._kind = kind
        self._times = times
        self._telemetry = telemetry or NoTelemetry()
        self._spawn = spawn
        self._sleep = sleep
        self._clock = clock
        self._flights: Flights[Loaded | Exception] = Flights()

    def get(self, name: str, *, kind: str | None = None) -> Found | None:
        """What is kept; None is a miss (or a dead Redis). `kind` labels the metrics of this call."""
        return self.get_many([name], kind=kind)[0]

    def get_many(self, names: Sequence[str], *, kind: str | None = None) -> list[Found | None]:
        """As `get`, for many in one round trip."""
        try:
            found = self._leased.read(names)
        except StoreUnavailableError:
            self._count("mbevents_cache_reads_total", kind, "unavailable", len(names))
            return [None] * len(names)
        absent = sum(each is not None and each.body is None for each in found)
        missing = found.count(None)
        for outcome, number in (("hit", len(found) - absent - missing), ("absent", absent), ("miss", missing)):
            if number:
                self._count("mbevents_cache_reads_total", kind, outcome, number)
        return found

    def get_or_load(self, name: str, load: Load, *, kind: str | None = None) -> bytes | None:
        """What is kept, or loaded now and kept. Errors of `load` are the caller's, unless there is a stale entry."""
        found = self.get(name, kind=kind)
        if found is None:
            return self._load(name, load, kind)
        # Not 0, which has no logarithm.
        if is_due(found, 1.0 - random.random()):
            return self._renew(name, found, load, kind)
        return found.body

    def forget(self, names: Iterable[str] = (), tags: Iterable[str] = ()) -> list[int]:
        """Forget entries, and all that have one of these tags; for each name how many were there (0 or 1).

        Raises StoreUnavailableError when that is not certain.
        """
        return self._leased.forget(list(names), list(tags))

    def _renew(self, name: str, found: Found, load: Load, kind: str | None) -> bytes | None:
        flight, own = self._flights.join(name)
        if not own:
            return found.body
        if self._spawn is None:
            return self._renewed(name, found, load, kind, flight)
        try:
            self._spawn(lambda: self._renewed(name, found, load, kind, flight))
        except BaseException:
            flight.end()
            raise
        return found.body

    def _renewed(self, name: str, found: Found, load: Load, kind: str | None, flight: "_Flight") -> bytes | None:
        try:
            taken = self._leased.lease(name, anew=True)
            if taken.lease is None:
                return found.body
            return self._fetch(name, load, taken.lease, kind, flight).body
        except StoreUnavailableError:
            return found.body
        except Exception as error:
            # An error of ours was told where it arose; any other may be a mistake, which the old entry would hide.
            level = DEBUG if isinstance(error, MbeventsError) else WARNING
            log.log(level, "cache_not_renewed", kind=kind or self._kind, error=type(error).__name__)
            self._count("mbevents_cache_loads_total", kind, "stale")
            return found.body
        finally:
            flight.end()

    def _load(self, name: str, load: Load, kind: str | None) -> bytes | None:
        for _ in range(_MOST_TRIES):
            flight, own = self._flights.join(name)
            if own:
                try:
                    return self._lead(name, load, kind, flight)
                finally:
                    flight.end()
            # Read after we joined: if it departs between, we are only thought to be late.
            early = not flight.departed
            shared = flight.wait(self._times.longest, early=early)
            if shared is not None:
                self._count("mbevents_cache_loads_total", kind, "shared")
                if isinstance(shared[0], Exception):
                    raise shared[0]
                return shared[0].body
            if not flight.ended:
                # Nor may it keep those waiting who come after us.
                flight.close()
                break
        return self._fetch(name, load, None, kind, None).body

    def _lead(self, name: str, load: Load, kind: str | None, flight: "_Flight") -> bytes | None:
        lease: Lease | None = None
        try:
            taken = self._take(name)
            lease = taken.lease
            if taken.found is not None and lease is None:
                self._count("mbevents_cache_loads_total", kind, "shared")
                return taken.found.body
        except StoreUnavailableError:
            pass
        return self._fetch(name, load, lease, kind, flight).body

    def _take(self, name: str) -> Taken:
        give_up, pause = self._clock() + self._times.patience, 0.002
        while True:
            taken = self._leased.lease(name)
            if taken != (None, None) or self._clock() >= give_up:
                return taken
            self._sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 0.03)

    def _fetch(self, name: str, load: Load, lease: Lease | None, kind: str | None, flight: "_Flight | None") -> Loaded:
        if flight is not None:
            flight.depart()
            if lease is None:
                # True for who asked before the load began, and for nobody else.
                flight.close()
        began = self._clock()
        try:
            loaded = load()
        except BaseException as error:
            self._count("mbevents_cache_loads_total", kind, "failed")
            if lease is not None:
                self._give_back(name, lease)
            if flight is not None and isinstance(error, Exception):
                # They would wait as long for the same, one after the other.
                flight.land(error)
            raise
        stored = False
        if lease is not None:
            if flight is not None:
                # Who comes after this may know of an invalidation that came after the store.
                flight.close()
            stored = self._store(name, lease, loaded, self._clock() - began)
        if flight is not None:
            flight.land(loaded, certain=stored or lease is None)
        outcome = "unleased" if lease is None else "stored" if stored else "refused"
        self._count("mbevents_cache_loads_total", kind, outcome)
        return loaded

    def _store(self, name: str, lease: Lease, loaded: Loaded, cost: float) -> bool:
        ttl = loaded.seconds
        if ttl is None:
            ttl = self._times.absent_ttl if loaded.body is None else self._times.ttl
        try:
            return self._leased.store(name, lease, loaded, seconds=ttl * random.uniform(0.9, 1.1), cost=cost)
        except StoreUnavailableError:
            return False

    def _give_back(self, name: str, lease: Lease) -> None:
        try:
            self._leased.give_back(name, lease)
        except StoreUnavailableError:
            log.warning("lease_not_given_back", kind=self._kind)

    def _count(self, metric: str, kind: str | None, outcome: str, number: int = 1) -> None:
        self._telemetry.count(metric, number, kind=kind or self._kind, outcome=outcome)
