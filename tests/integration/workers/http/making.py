"""Clients for tests: quick, and with what a test wants to be different."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from events.breaker import Breaker
from events.telemetry import Telemetry
from workers.http.adapters import Wire
from workers.http.answers import Answers
from workers.http.buckets import Buckets, LocalBuckets
from workers.http.core import Failure, Kind, Outcome
from workers.http.gate import Gate
from workers.http.network import Resolve
from workers.http.policies import Policies, Policy
from workers.http.reporting import Reporter
from workers.http.service import Guard, HttpClient

# Nothing in these tests is about how often.
FREE = Policy("other", concurrency=100)


def made(
    *,
    deadline: float = 5.0,
    timeout: float = 2.0,
    most_bytes: int = 1 << 16,
    policies: Policies | None = None,
    buckets: Buckets | None = None,
    answers: Answers | None = None,
    guarded: Guard | None = None,
    resolve: Resolve | None = None,
    allowed: Callable[[str], bool] | None = None,
    contact: str | None = None,
    failures: int = 100,
    open_seconds: float = 30.0,
    telemetry: Telemetry | None = None,
    reporter: Reporter | None = None,
    sleep: Callable[[float], None] = lambda _: None,
) -> HttpClient:
    """It does not wait between tries, unless it is given a `sleep`."""
    make: Any = lru_cache(maxsize=64)(partial(Breaker, failures=failures, open_seconds=open_seconds))
    return HttpClient(
        Wire("test", timeout=timeout, most_bytes=most_bytes, resolve=resolve, allowed=allowed),
        Gate(buckets or LocalBuckets(), telemetry=telemetry),
        policies or Policies([], FREE),
        make,
        answers=answers,
        guarded=guarded,
        contact=contact,
        deadline=deadline,
        telemetry=telemetry,
        reporter=reporter,
        sleep=sleep,
    )


class Make(Protocol):
    def __call__(self, **options: Any) -> HttpClient: ...


def nobody() -> "redis.Redis":
    """A Redis that is away."""
    return redis.Redis(port=1, retry=Retry(NoBackoff(), 0))


def kind(outcome: Outcome) -> Kind:
    assert isinstance(outcome, Failure), outcome
    return outcome.kind
