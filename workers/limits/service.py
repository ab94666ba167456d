"""The limiter: asks whether something may be done now, and has an answer also while Redis is away."""

from collections.abc import Sequence
from typing import Protocol

import structlog

from events.errors import UnreachableError
from events.telemetry import Telemetry

from .core import Decision, Scope, WithoutRedis, decide_without_redis

log = structlog.get_logger(__name__)


class LimitsUnavailableError(UnreachableError):
    """What was done lately cannot be asked: Redis of the limits is away, full or read-only."""


class Windows(Protocol):
    """What was done lately, in all processes."""

    def decide(self, scopes: Sequence[Scope]) -> Decision:
        """Allowed and counted in all scopes, or refused and counted in none. Raises LimitsUnavailableError."""


class Decider(Protocol):
    """What limits go by. Never raises for a server's sake."""

    def decide(self, scopes: Sequence[Scope]) -> Decision: ...


class Limiter:
    """`without_redis` is for scopes that do not say it themselves. Never raises for a server's sake."""

    def __init__(self, windows: Windows, *, without_redis: WithoutRedis, telemetry: Telemetry) -> None:
        self._windows = windows
        self._without_redis: WithoutRedis = without_redis
        self._telemetry = telemetry
        self._away = False

    def decide(self, scopes: Sequence[Scope]) -> Decision:
        """Whether it may be done now; one scope at least."""
        try:
            decision = self._windows.decide(scopes)
        except LimitsUnavailableError as error:
            decision = decide_without_redis(scopes, self._without_redis)
            self._tell(away=True, outcome=decision.outcome, error=str(error))
        else:
            self._tell(away=False)
        counted = scopes if decision.allowed else (decision.scope,)
        for scope in counted:
            self._telemetry.count("mbevents_limit_decisions_total", 1, scope=scope.name, outcome=decision.outcome)
        return decision

    def _tell(self, *, away: bool, **fields: str) -> None:
        # Once each time: every request asks.
        if away != self._away:
            self._away = away
            if away:
                log.warning("limits_unavailable", **fields)
            else:
                log.info("limits_available")
