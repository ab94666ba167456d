from collections.abc import Sequence

import structlog

from tests.unit.workers.limits.counted import Counted
from workers.limits.core import Decision, Scope
from workers.limits.service import Limiter, LimitsUnavailableError

FIRST, SECOND = Scope("first", "k", 1), Scope("second", "k", 1, without_redis="closed")


class Told:
    """Windows that answer what they are told to, or are away."""

    def __init__(self) -> None:
        self.answer: Decision | None = None

    def decide(self, scopes: Sequence[Scope]) -> Decision:
        assert scopes
        if self.answer is None:
            raise LimitsUnavailableError("Redis of the limits: ConnectionError")
        return self.answer


def test_every_decision_is_counted_by_scope_and_outcome() -> None:
    windows, telemetry = Told(), Counted()
    limiter = Limiter(windows, without_redis="open", telemetry=telemetry)
    windows.answer = Decision("allowed", FIRST)
    limiter.decide([FIRST, SECOND])
    windows.answer = Decision("refused", SECOND)
    limiter.decide([FIRST, SECOND])
    windows.answer = None
    limiter.decide([FIRST])
    limiter.decide([FIRST, SECOND])
    assert telemetry.counts == {
        ("first", "allowed"): 1,
        ("second", "allowed"): 1,
        ("second", "refused"): 1,
        ("first", "unavailable_open"): 1,
        ("second", "unavailable_closed"): 1,
    }


def test_that_redis_is_away_is_logged_once_and_so_is_that_it_is_back() -> None:
    windows = Told()
    limiter = Limiter(windows, without_redis="open", telemetry=Counted())
    with structlog.testing.capture_logs() as logged:
        for answer in (Decision("allowed", FIRST), None, None, Decision("allowed", FIRST), Decision("allowed", FIRST)):
            windows.answer = answer
            assert limiter.decide([FIRST]).allowed
    assert [each["event"] for each in logged] == ["limits_unavailable", "limits_available"]
