"""Reads what was counted, and counts what is due."""

import time
from collections.abc import Callable, Mapping, Sequence
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
# What one count may take: the 130 million edits of MusicBrainz.org are some 10 GB.
SURVEY_SECONDS = 240.0
LEASE_SECONDS = 300.0
# No count is begun after this: RabbitMQ gives a message that is worked on for half an hour to somebody else.
REFRESH_SECONDS = 1_200.0


class CountFailedError(MbeventsError):
    """A survey was refused, or took too long; others can still be made."""


class TableLockedError(CountFailedError):
    """Somebody changes a table and has it alone: that says nothing of what the count costs, and is soon over."""


class Counts(Protocol):
    """Counts in the database as it is now."""

    def count(self, survey: str, *, seconds: float) -> Mapping[str, int | None]:
        """Raises CountFailedError (TableLockedError when somebody has a table alone), and psycopg.OperationalError when
        the database is away."""
        ...


class Requests(Protocol):
    """That somebody wants a refresh, or one is made: another is not asked for then."""

    def ask(self) -> None: ...

    def hold(self, seconds: float) -> None:
        """A refresh is made, for so long at most until this is said again."""
        ...

    def end(self) -> None: ...


class Statistics:
    """`ttl`: seconds that a count is fresh; `margin`: those before its end at which it is made again. `leased` has to
    give leases of LEASE_SECONDS."""

    def __init__(
        self,
        leased: Leased,
        counts: Counts,
        requests: Requests,
        *,
        ttl: float,
        margin: float,
        telemetry: Telemetry | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._leased = leased
        self._counts = counts
        self._requests = requests
        self._ttl = ttl
        self._margin = margin
        self._telemetry = telemetry or NoTelemetry()
        self._now = now

    def read(self) -> list[Statistic]:
        """What was last counted; nothing is counted now. Raises StoreUnavailableError."""
        fresh, last = self._kept(SURVEYS)
        found = told(SURVEYS, [decode(each.body) if each else None for each in fresh], last)
        missed = sum(each.expired for each in found)
        for outcome, number in (("miss", missed), ("hit", len(found) - missed)):
            self._telemetry.count("mbevents_cache_reads_total", number, kind=KIND, outcome=outcome)
        return found

    def ask(self) -> None:
        """Have what is due counted in the background. Who only reads is not to fail because nobody can be asked."""
        try:
            # What failed, or was dear and just counted, stays expired for long: a message would come to nothing.
            if self._due(SURVEYS):
                self._requests.ask()
        except Exception as error:
            # Redis and either kind of broker have errors of their own. The scheduler asks again.
            log.warning("statistics_not_asked_for", error=type(error).__name__)

    def forget(self) -> None:
        """Have everything counted again; until then it is told as it was. Raises StoreUnavailableError."""
        self._leased.forget([survey.name for survey in SURVEYS])

    def refresh(self, going: Callable[[], bool] = lambda: True) -> int:
        """Count what is due and nobody else counts; how many surveys. Raises StoreUnavailableError.

        Each is one step, kept as soon as it is made: whatever ends a refresh, the next one goes on from there.
        """
        end = time.monotonic() + REFRESH_SECONDS
        number = 0
        try:
            for survey in SURVEYS:
                if not going() or time.monotonic() > end:
                    break
                self._requests.hold(LEASE_SECONDS)
                number += self._refresh(survey)
        finally:
            self._requests.end()
        return number

    def _refresh(self, survey: Survey) -> bool:
        # Asked now: while others were counted, somebody else may have counted this one.
        lease = self._leased.lease(survey.name, anew=True).lease if self._due([survey]) else None
        if lease is None:
            return False
        try:
            return self._count(survey, lease)
        except BaseException:
            self._leased.give_back(survey.name, lease)
            raise

    def _due(self, surveys: Sequence[Survey]) -> list[Survey]:
        fresh, last = self._kept(surveys)
        now = self._now()
        return [
            survey
            for survey, entry, copy in zip(surveys, fresh, last, strict=True)
            if is_due(entry.left if entry else None, copy, now=now, margin=self._margin)
        ]

    def _kept(self, surveys: Sequence[Survey]) -> tuple[list[Found | None], list[Counted | None]]:
        names = [survey.name for survey in surveys]
        found = self._leased.read([*names, *(survey.copy for survey in surveys)])
        return found[: len(names)], [decode(each.body) if each else None for each in found[len(names) :]]

    def _count(self, survey: Survey, lease: Lease) -> bool:
        # The lease came before: what is invalidated after this moment voids it.
        moment, began = self._now(), time.monotonic()
        try:
            values = self._counts.count(survey.name, seconds=SURVEY_SECONDS)
        except TableLockedError as error:
            log.info("survey_left_for_later", survey=survey.name, why=str(error))
            self._leased.give_back(survey.name, lease)
            return False
        except CountFailedError as error:
            log.warning("survey_failed", survey=survey.name, error=str(error))
            self._keep(survey, lease, None)
            return False
        self._keep(survey, lease, Counted(values, moment, round(time.monotonic() - began, 4)))
        return True

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
