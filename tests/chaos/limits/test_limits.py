"""Whatever happens to the Redis of the limits: each answers as configured, soon, and holds again when that is well."""

import time
import uuid
from collections import Counter

import pytest

from events.breaker import Breaker
from events.connections import open_client
from tests.benchmarks.ratelimit import counts
from tests.chaos.redis.faulty import AWAY, FAULTS, LONGEST, SECONDS, Fault, FaultyRedis, Stopwatch
from tests.unit.workers.limits.counted import Counted
from tests.waiting import wait_for
from workers.limits.adapters import RedisWindows
from workers.limits.core import Decision, Scope, WithoutRedis
from workers.limits.service import Limiter


class Asker:
    """Notes what it was told."""

    def __init__(self, limiter: Limiter) -> None:
        self.told: Counter[tuple[str, str]] = Counter()
        self.timed = Stopwatch()
        self._limiter = limiter

    def decide(self, scope: Scope) -> Decision:
        decision = self.timed(lambda: self._limiter.decide([scope]))
        self.told[scope.name, decision.outcome] += 1
        return decision

    def holds(self, scope: Scope) -> bool:
        """Asked again and again, it soon refuses."""
        outcomes = [self.decide(scope).outcome for _ in range(scope.limit + 1)]
        return set(outcomes) <= {"allowed", "refused"} and outcomes[-1] == "refused"


def scope(name: str, without_redis: WithoutRedis) -> Scope:
    # Few enough to be used up in a window also where Redis is slow and the machine is busy.
    return Scope(name, uuid.uuid4().hex, 3, 0.4, without_redis)


@pytest.mark.parametrize("fault", FAULTS)
def test_limits_hold_or_answer_as_configured_soon_and_hold_again(faulty: FaultyRedis, fault: Fault) -> None:
    telemetry, opened, closed = Counted(), scope("opened", "open"), scope("closed", "closed")
    with open_client(faulty.url(4), Breaker("limits", open_seconds=0.05), seconds=SECONDS) as client:
        asker = Asker(Limiter(RedisWindows(client), without_redis="open", telemetry=telemetry))
        assert asker.holds(opened)
        with faulty.suffering(fault):
            if fault in AWAY:
                outcomes = {asker.decide(each).outcome for _ in range(5) for each in (opened, closed)}
                assert outcomes == {"unavailable_open", "unavailable_closed"}
            else:
                wait_for(lambda: asker.holds(opened) and asker.holds(closed))
        wait_for(lambda: asker.holds(closed))
        allowed, ends = [], time.monotonic() + 0.7
        while time.monotonic() < ends:
            decision = asker.decide(closed)
            assert decision.outcome in {"allowed", "refused"}
            if decision.allowed:
                allowed.append((decision.at, decision.at))
        assert max(counts(allowed, closed.window_us)) == closed.limit
    assert telemetry.counts == asker.told
    assert asker.timed.slowest < LONGEST
