"""Reads what was counted, and counts what is due."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Protocol

import structlog

from events.errors import MbeventsError
from events.telemetry import NoTelemetry, Telemetry
from workers.leased.core import Found, Lease, Loaded
from workers.leased.service import Leased

from .core import KEPT_SECONDS, SURVEYS, Counted, Statistic, Survey, decode, encode, is_due, told

log = structlog.get_logger(__name__)

KIND = "statistics"
# All that one refresh counts; its leases stand a little longer.
SECONDS = 270.0
LEASE_SECONDS = 300.0


class CountFailedError(MbeventsError):
    """A survey was refused, or took too long; others can still be made."""


class Snapshot(Protocol):
    """The database as it was at one moment."""

    def count(self, survey: str, *, seconds: float) -> Mapping[str, int | None]:
        """Raises CountFailedError."""
        ...


class Requests(Protocol):
    """That somebody wants a refresh: one waits at most."""

    def ask(self) -> None: ...

    def begin(self) -> None:
        """A refresh begins: whoever asks from now on asks for another."""
        ...


class Statistics:
    """`ttl`: seconds that a count is fresh; `margin`: those before its end at which it is made again. `leased` has to
    give leases of LEASE_SECONDS."""

    def __init__(
        self,
        leased: Leased,
        snapshot: Callable[[], AbstractContextManager[Snapshot]],
        requests: Requests,
        *,
        ttl: float,
        margin: float,
        telemetry: Telemetry | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._leased = leased
        self._snapshot = snapshot
        self._requests = requests
        self._ttl = ttl
        self._margin = margin
        self._telemetry = telemetry or NoTelemetry()
        self._now = now

    def read(self) -> list[Statistic]:
        """What was last counted; nothing is counted now. Raises StoreUnavailableError."""
        fresh, last = self._kept()
        found = told(SURVEYS, [decode(each.body) if each else None for each in fresh], last)
        missed = sum(each.expired for each in found)
        for outcome, number in (("miss", missed), ("hit", len(found) - missed)):
            self._telemetry.count("mbevents_cache_reads_total", number, kind=KIND, outcome=outcome)
        return found

    def ask(self) -> None:
        """Have what is due counted in the background. Who only reads is not to fail because nobody can be asked."""
        try:
            # What failed, or was dear and just counted, stays expired for long: a message would come to nothing.
            if self._due():
                self._requests.ask()
        except Exception as error:
            # Redis and either kind of broker have errors of their own. The scheduler asks again.
            log.warning("statistics_not_asked_for", error=type(error).__name__)

    def forget(self) -> None:
        """Have everything counted again; until then it is told as it was. Raises StoreUnavailableError."""
        self._leased.forget([survey.name for survey in SURVEYS])

    def refresh(self) -> int:
        """Count what is due and nobody else counts; how many surveys. Raises StoreUnavailableError."""
        self._requests.begin()
        due = self._due()
        # What is quick comes first: what is slow may leave nothing of the time.
        due.sort(key=lambda each: each[1].seconds if each[1] else 0.0)
        # Leases come before the snapshot: what is invalidated after it must void them.
        leases = {
            survey: lease
            for survey, _ in due
            if (lease := self._leased.lease(survey.name, anew=True).lease) is not None
        }
        if not leases:
            return 0
        try:
            return self._count(leases)
        finally:
            for survey, lease in leases.items():
                self._leased.give_back(survey.name, lease)

    def _due(self) -> list[tuple[Survey, Counted | None]]:
        """Each with its copy."""
        fresh, last = self._kept()
        now = self._now()
        return [
            (survey, copy)
            for survey, entry, copy in zip(SURVEYS, fresh, last, strict=True)
            if is_due(entry.left if entry else None, copy, now=now, margin=self._margin)
        ]

    def _kept(self) -> tuple[list[Found | None], list[Counted | None]]:
        names = [survey.name for survey in SURVEYS]
        found = self._leased.read([*names, *(survey.copy for survey in SURVEYS)])
        return found[: len(names)], [decode(each.body) if each else None for each in found[len(names) :]]

    def _count(self, leases: dict[Survey, Lease]) -> int:
        end = time.monotonic() + SECONDS
        number = 0
        with self._snapshot() as snapshot:
            moment = self._now()
            for survey in list(leases):
                began = time.monotonic()
                if end - began < 1:
                    break
                try:
                    values = snapshot.count(survey.name, seconds=end - began)
                except CountFailedError as error:
                    log.warning("survey_failed", survey=survey.name, error=str(error))
                    self._keep(survey, leases.pop(survey), None)
                else:
                    counted = Counted(values, moment, round(time.monotonic() - began, 4))
                    self._keep(survey, leases.pop(survey), counted)
                    number += 1
        return number

    def _keep(self, survey: Survey, lease: Lease, counted: Counted | None) -> None:
        """None: it cannot be counted, which is kept too, so that it is not tried all the time."""
        body = None if counted is None else encode(counted)
        cost = 0.0 if counted is None else counted.seconds
        loaded = Loaded(body, survey.tags if counted else ())
        stored = self._leased.store(survey.name, lease, loaded, seconds=self._ttl, cost=cost)
        outcome = "failed" if counted is None else "stored" if stored else "refused"
        self._telemetry.count("mbevents_cache_loads_total", kind=KIND, outcome=outcome)
        copy = None if counted is None else self._leased.lease(survey.copy, anew=True).lease
        if copy is not None:
            # Also when an event overtook the count: it is true of its moment.
            self._leased.store(survey.copy, copy, Loaded(body), seconds=self._ttl + KEPT_SECONDS, cost=cost)


def expired(statistics: Sequence[Statistic]) -> bool:
    """Whether a refresh is worth asking for."""
    return any(each.expired for each in statistics)
