"""The limiter on a real server: many at once by its own clock. What happens to it is in tests/chaos/limits."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from events.breaker import Breaker
from events.connections import open_client
from ops.stack.redis import EmbeddedRedis
from tests.benchmarks.ratelimit import counts
from tests.unit.workers.limits.counted import Counted
from workers.limits.adapters import RedisWindows
from workers.limits.core import Decision, Scope
from workers.limits.service import Limiter


@pytest.fixture
def client(server: EmbeddedRedis) -> "Iterator[redis.Redis]":
    with open_client(server.url(4), Breaker("limits", open_seconds=0.05), seconds=0.3) as client:
        yield client


@pytest.fixture
def telemetry() -> Counted:
    return Counted()


@pytest.fixture
def limiter(client: "redis.Redis", telemetry: Counted) -> Limiter:
    return Limiter(RedisWindows(client), without_redis="open", telemetry=telemetry)


def scope(limit: int, *, seconds: float = 1.0, name: str = "test") -> Scope:
    return Scope(name, uuid.uuid4().hex, limit, seconds)


def outcome(limiter: Limiter, one: Scope) -> str:
    return limiter.decide([one]).outcome


def test_many_threads_never_get_more_than_the_limit_in_any_window(limiter: Limiter) -> None:
    wide, narrow = scope(60, seconds=0.3, name="wide"), scope(20, seconds=0.1, name="narrow")
    ends = time.monotonic() + 1.0

    def hammer(_: int) -> list[Decision]:
        found = []
        while time.monotonic() < ends:
            found.append(limiter.decide([wide, narrow]))
        return found

    with ThreadPoolExecutor(12) as threads:
        decisions = [each for found in threads.map(hammer, range(12)) for each in found]
    times = [each.at for each in decisions if each.allowed]
    assert max(counts([(at, at) for at in times], narrow.window_us)) == narrow.limit
    assert max(counts([(at, at) for at in times], wide.window_us)) <= wide.limit
    # Nor much less than it: a second has ten windows.
    assert len(times) >= 100
    assert len(times) < len(decisions)


def test_who_waits_as_long_as_it_is_told_is_let_through(limiter: Limiter) -> None:
    one = scope(3, seconds=0.05)
    for _ in range(15):
        decision = limiter.decide([one])
        if not decision.allowed:
            time.sleep(decision.retry_after)
            assert limiter.decide([one]).allowed


def test_redis_forgets_by_itself_a_second_after_the_window(limiter: Limiter, client: "redis.Redis") -> None:
    one = scope(3, seconds=2.0005)
    limiter.decide([one])
    assert 2_500 < client.pttl(RedisWindows(client).key_of(one)) <= 3_001


@pytest.mark.parametrize("lose", ["script_flush", "flushall"])
def test_a_script_that_was_lost_is_sent_again(limiter: Limiter, client: "redis.Redis", lose: str) -> None:
    one = scope(2)
    assert outcome(limiter, one) == "allowed"
    getattr(client, lose)()
    assert outcome(limiter, one) == "allowed"


def test_connections_that_redis_closed_are_replaced_without_a_word(limiter: Limiter, client: "redis.Redis") -> None:
    one = scope(9)
    assert outcome(limiter, one) == "allowed"
    with redis.Redis.from_pool(client.connection_pool) as other:
        other.client_kill_filter(skipme=False)
    assert outcome(limiter, one) == "allowed"


def test_a_key_that_is_something_else_counts_as_away(limiter: Limiter, client: "redis.Redis") -> None:
    one, other = scope(1), scope(1)
    client.set(RedisWindows(client).key_of(other), b"not a set")
    assert limiter.decide([one, other]).outcome == "unavailable_open"
    # Counted in none: the first can be had.
    assert outcome(limiter, one) == "allowed"


def test_a_pool_without_a_connection_left_counts_as_away(server: EmbeddedRedis, telemetry: Counted) -> None:
    with open_client(server.url(4), Breaker("limits"), size=1, seconds=0.1) as client:
        limiter = Limiter(RedisWindows(client), without_redis="closed", telemetry=telemetry)
        pool: Any = client.connection_pool
        held = pool.get_connection()
        assert outcome(limiter, scope(1)) == "unavailable_closed"
        pool.release(held)
        assert outcome(limiter, scope(1)) == "allowed"


def test_the_judge_of_the_benchmark_finds_what_it_looks_for() -> None:
    assert counts([(at, at) for at in (500, 0, 999)], 1_000) == [3, 2, 1]
    assert counts([(at, at) for at in (0, 0, 1_000)], 1_000) == [2, 1, 1]
    # The last may have come after the window, the first before it.
    assert counts([(0, 1), (500, 501), (998, 1_000)], 1_000) == [2, 2, 1]
    assert counts([(0, 900), (100, 200), (1_000, 1_001)], 1_000)[1] == 2
