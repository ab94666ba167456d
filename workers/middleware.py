"""What happens around every actor: versions, ids in the logs, numbers, retries, the ledger and the dead letters."""

# ruff: noqa: ARG002 (the hooks' signatures are Dramatiq's)

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

import dramatiq
import psycopg
import structlog
from dramatiq.common import current_millis
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.middleware import SkipMessage
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolTimeout

from events.errors import UnreachableError
from events.ledger import service
from events.queues.adapters import PostgresDeadLetters
from events.queues.core import (
    MAX_BACKOFF_MS,
    MAX_RETRIES,
    MESSAGE_VERSION,
    MIN_BACKOFF_MS,
    backoff_ms,
    describe,
    unknown_version,
)
from events.queues.letters import NewDeadLetter, letter_of
from events.telemetry import Telemetry
from workers.limits.core import MOST_REFUSALS, postponed_ms
from workers.limits.service import Decider

log = structlog.get_logger(__name__)

T = TypeVar("T")

Connect = Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]


class LedgerAwayError(UnreachableError):
    """The ledger cannot be asked whether work is done: it waits, and that is no fault of the work."""


class Ledger(Protocol):
    """Where it stands which work is done."""

    def state(self, task_id: int) -> str | None: ...
    def complete(self, task_id: int, *, attempts: int) -> bool: ...
    def bury(self, letters: Iterable[NewDeadLetter]) -> None: ...


class PostgresLedger:
    """Each call is a transaction of its own; a connection that the server closed is replaced once."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._letters = PostgresDeadLetters(connect)

    def state(self, task_id: int) -> str | None:
        return self._twice(lambda connection: service.state(connection, task_id))

    def complete(self, task_id: int, *, attempts: int) -> bool:
        return self._twice(lambda connection: service.complete(connection, task_id, attempts=attempts))

    def bury(self, letters: Iterable[NewDeadLetter]) -> None:
        self._letters.bury(letters)

    def _twice(self, work: "Callable[[psycopg.Connection[Any]], T]") -> T:
        try:
            with self._connect() as connection:
                return work(connection)
        except PoolTimeout:
            raise
        except psycopg.OperationalError:
            # After a restart of the server, each connection of the pool is found dead once.
            with self._connect() as connection:
                return work(connection)


# A server that is gone without a word is found out within half a minute, not after the two hours of most systems: until
# then its connections stay in use.
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}


def make_pool(
    database_url: str, *, size: int = 4, statement_seconds: float = 0, patience: float = 5
) -> "ConnectionPool[psycopg.Connection[Any]]":
    """One small pool for a process; it opens by itself, also later when the server is away.

    `statement_seconds`: how long the server works on a statement before it gives up; 0: as long as it takes.
    `patience`: how long somebody waits for a connection.
    """

    def configure(connection: "psycopg.Connection[Any]") -> None:
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{statement_seconds:g}s",))

    asked = conninfo_to_dict(database_url)
    return ConnectionPool(
        database_url,
        min_size=1,
        max_size=size,
        timeout=patience,
        open=True,
        name="worker-ledger",
        kwargs={
            "autocommit": True,
            "application_name": "mbevents worker",
            **{name: value for name, value in _ALIVE.items() if name not in asked},
        },
        configure=configure if statement_seconds else None,
    )


class BoundIds(dramatiq.Middleware):  # type: ignore[misc]
    """Binds the ids of the message to every line that its actor logs."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        ids = {"queue": message.queue_name, "actor": message.actor_name, "message_id": message.message_id}
        if (task_id := message.options.get("task_id")) is not None:
            ids["task_id"] = task_id
        structlog.contextvars.bind_contextvars(**ids)

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        structlog.contextvars.unbind_contextvars("queue", "actor", "message_id", "task_id")

    def after_skip_message(self, broker: Any, message: Any) -> None:
        self.after_process_message(broker, message)


class Measured(dramatiq.Middleware):  # type: ignore[misc]
    """Counts work by outcome (done, retried, dead, skipped), and measures how long it waited and ran."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def before_process_message(self, broker: Any, message: Any) -> None:
        message.began = time.perf_counter()
        # Not the message's own timestamp: a retry has waited on purpose.
        since = message.options.get("queued_at", message.message_timestamp)
        if isinstance(since, int | float):
            waited = max(0.0, (current_millis() - since) / 1000)
            self._telemetry.observe("mbevents_job_wait_seconds", waited, **_labels(message))

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        outcome = _outcome(message) or "done"
        self._telemetry.observe("mbevents_job_seconds", time.perf_counter() - message.began, **_labels(message))
        self._telemetry.count("mbevents_jobs_total", 1, outcome=outcome, **_labels(message))

    def after_skip_message(self, broker: Any, message: Any) -> None:
        self._telemetry.count("mbevents_jobs_total", 1, outcome=_outcome(message) or "skipped", **_labels(message))


class Ledgered(dramatiq.Middleware):  # type: ignore[misc]
    """Work that is done is skipped, success is noted, and what failed for good goes to the dead letters.

    Actors may be `idempotent`: the ledger is not asked before they run, and a copy of their message runs again.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def actor_options(self) -> set[str]:
        return {"idempotent"}

    def before_process_message(self, broker: Any, message: Any) -> None:
        task_id = message.options.get("task_id")
        # What may as well be done twice does not wait for an answer.
        if task_id is None or broker.get_actor(message.actor_name).options.get("idempotent", False):
            return
        try:
            state = self._ledger.state(task_id)
        except psycopg.Error as error:
            message.postponed = LedgerAwayError("Postgres does not answer whether this work is done; it waits.")
            raise SkipMessage("ledger away") from error
        # Dead is not done: a person's retry is enqueued just before its transaction makes it queued again.
        if state is None or state == "done":
            raise SkipMessage("done already")

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        task_id = message.options.get("task_id")
        if exception is not None:
            if message.failed:
                self._bury(message, describe(exception))
        elif task_id is not None:
            try:
                self._ledger.complete(task_id, attempts=message.options.get("retries", 0) + 1)
            except psycopg.Error as error:
                # Acked all the same: the requeuer finds a task without a message, and it runs once more.
                log.warning("task_not_marked_done", error=type(error).__name__)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        problem = getattr(message, "problem", None)
        if problem is not None:
            self._bury(message, problem)

    def _bury(self, message: Any, error: str) -> None:
        message.died = True
        message.error = error
        letter = letter_of(
            message.asdict(),
            # Redis's id, as the reaper would have it: told by both of us, it is still one death.
            delivery_id=message.options.get("redis_message_id") or message.message_id,
            error=error,
            redeliveries=message.redeliveries,
        )
        try:
            self._ledger.bury([letter])
        except psycopg.Error as failure:
            # Rejected instead, the broker keeps it until the reaper brings it to Postgres.
            log.error("dead_letter_not_kept", error=type(failure).__name__)  # noqa: TRY400 (it may quote the row)
            message.fail()
        else:
            log.error("message_died", attempts=letter.attempts)
            message.failed = False


class Versions(dramatiq.Middleware):  # type: ignore[misc]
    """A message of a version that this release does not know is no work for it, however often it is tried."""

    def __init__(self, supported: Collection[int] = (MESSAGE_VERSION,)) -> None:
        self._supported = supported

    def before_process_message(self, broker: Any, message: Any) -> None:
        message.problem = unknown_version(message.kwargs, self._supported)
        if message.problem is not None:
            raise SkipMessage(message.problem)


class Retries(dramatiq.Middleware):  # type: ignore[misc]
    """Failed work runs again after a while that doubles, with full jitter; at last it is failed for good.

    Actors may have `max_retries`, `min_backoff` and `max_backoff` (milliseconds), and `throws` (never retried).
    """

    def __init__(
        self, *, max_retries: int = MAX_RETRIES, min_backoff: int = MIN_BACKOFF_MS, max_backoff: int = MAX_BACKOFF_MS
    ) -> None:
        self._max_retries = max_retries
        self._min_backoff = min_backoff
        self._max_backoff = max_backoff

    @property
    def actor_options(self) -> set[str]:
        return {"max_retries", "min_backoff", "max_backoff", "throws"}

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is None:
            return
        options = broker.get_actor(message.actor_name).options
        retries = message.options.get("retries", 0)
        least = options.get("min_backoff", self._min_backoff)
        if isinstance(exception, RateLimitExceeded):
            # It was not even tried, so it costs no retry.
            self._later(message, retries, backoff_ms(1, least=least), exception)
            return
        throws = options.get("throws")
        if retries >= options.get("max_retries", self._max_retries) or (throws and isinstance(exception, throws)):
            message.fail()
            return
        delay = exception.delay if isinstance(exception, Retry) else None
        if delay is None:
            delay = backoff_ms(retries, least=least, most=options.get("max_backoff", self._max_backoff))
        self._later(message, retries + 1, delay, exception)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        postponed = getattr(message, "postponed", None)
        if postponed is None:
            return
        retries = message.options.get("retries", 0)
        if isinstance(postponed, Refused):
            log.debug("message_postponed", scope=postponed.scope, delay_ms=postponed.delay)
            _again(message, postponed.delay, retries=retries, refusals=postponed.refusals)
        else:
            self._later(message, retries, backoff_ms(1, least=self._min_backoff), postponed)

    def _later(self, message: Any, retries: int, delay: int, exception: BaseException) -> None:
        log.warning("message_retried", retries=retries, delay_ms=delay, error=describe(exception))
        # It was let through: if it is refused next time, that is the first time.
        _again(message, delay, retries=retries, refusals=0)


def _again(message: Any, delay: int, **options: int) -> None:
    # The consumer puts it off in the step in which it would have been acked.
    message.again = (message.copy(options=options), delay)


class Refused(NamedTuple):
    """Why a message has to wait `delay` milliseconds: a rate limit, for the n-th time."""

    scope: str
    delay: int
    refusals: int


class RateLimited(dramatiq.Middleware):  # type: ignore[misc]
    """Actors may have `rate_limits`, a tuple of scopes: their work begins when all of these let it through.

    Until then it is put off for as long as they say, which costs none of its retries.
    """

    def __init__(self, limiter: Decider) -> None:
        self._limiter = limiter

    @property
    def actor_options(self) -> set[str]:
        return {"rate_limits"}

    def before_process_message(self, broker: Any, message: Any) -> None:
        scopes = broker.get_actor(message.actor_name).options.get("rate_limits")
        if not scopes:
            return
        decision = self._limiter.decide(scopes)
        if not decision.allowed:
            refusals = min(message.options.get("refusals", 0) + 1, MOST_REFUSALS)
            message.postponed = Refused(decision.scope.name, postponed_ms(decision, refusals), refusals)
            raise SkipMessage(f"rate limit {decision.scope.name}")


def standard_middleware(
    ledger: Ledger,
    telemetry: Telemetry,
    *,
    limiter: Decider | None = None,
    max_retries: int = MAX_RETRIES,
    supported: Collection[int] = (1,),
) -> list[Any]:
    """In this order: what is before an actor runs from first to last, what is after it from last to first.

    Without a limiter, actors with `rate_limits` cannot be declared.
    """
    return [
        BoundIds(),
        Measured(telemetry),
        Ledgered(ledger),
        Versions(supported),
        # After those: what is not going to run is not counted.
        *([] if limiter is None else [RateLimited(limiter)]),
        Retries(max_retries=max_retries),
    ]


def _labels(message: Any) -> dict[str, str]:
    return {"queue": message.queue_name, "actor": message.actor_name}


def _outcome(message: Any) -> str | None:
    if getattr(message, "died", False):
        return "dead"
    return "retried" if message.again is not None else None
