"""Token buckets: the one in Redis and the one of a process keep the same promises."""

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from ops.stack import Stack
from tests.integration.workers.http.making import nobody
from workers.http.buckets import Buckets, BucketsUnavailableError, LocalBuckets, RedisBuckets, landing
from workers.http.policies import Policy

Given = Callable[[], Buckets]


@pytest.fixture(params=["local", "redis"])
def given(request: pytest.FixtureRequest) -> Iterator[Given]:
    """Makes buckets; those of Redis are the same for all."""
    if request.param == "local":
        one = LocalBuckets()
        yield lambda: one
        return
    server: Stack = request.getfixturevalue("redis_server")
    with redis.Redis.from_url(server.redis_url(4)) as client:
        yield lambda: RedisBuckets(client, namespace="MB")


def test_a_full_bucket_gives_its_burst_and_then_a_token_an_interval(given: Given) -> None:
    buckets, policy = given(), Policy("p", rate=2, burst=2, concurrency=9)
    assert [buckets.take("b", policy, lease, 10) for lease in "ab"] == [0, 0]
    # Both may be on their way still: the server might see them at any moment.
    assert buckets.take("b", policy, "c", 10) == landing(policy)
    buckets.give_back("b", policy, "a")
    buckets.give_back("b", policy, "b")
    wait = buckets.take("b", policy, "c", 10)
    assert 0 < wait < 0.501
    time.sleep(wait)
    assert buckets.take("b", policy, "c", 10) == 0


def test_a_token_comes_back_from_the_end_of_its_call_on(given: Given) -> None:
    buckets, policy = given(), Policy("p", rate=2, burst=1, concurrency=9)
    assert buckets.take("b", policy, "a", 10) == 0
    time.sleep(0.3)
    began = time.monotonic()
    buckets.give_back("b", policy, "a")
    wait = buckets.take("b", policy, "b", 10)
    assert 0.499 - (time.monotonic() - began) < wait < 0.501


def test_no_more_are_in_flight_than_there_are_places(given: Given) -> None:
    buckets, policy = given(), Policy("p", concurrency=2)
    assert [buckets.take("b", policy, lease, 10) for lease in "abc"] == [0, 0, landing(policy)]
    buckets.give_back("b", policy, "a")
    assert buckets.take("b", policy, "c", 10) == 0


def test_buckets_of_other_hosts_are_others(given: Given) -> None:
    buckets, policy = given(), Policy("p", rate=1, burst=1)
    assert [buckets.take(name, policy, "a", 10) for name in ("x", "y")] == [0, 0]


def test_the_lease_of_a_process_that_died_ends_and_its_token_was_spent(given: Given) -> None:
    buckets, policy = given(), Policy("p", rate=2, burst=1)
    assert buckets.take("b", policy, "dead", 0.5) == 0
    assert buckets.take("b", policy, "b", 10) == landing(policy)
    time.sleep(0.51)
    wait = buckets.take("b", policy, "b", 10)
    assert 0 < wait < 0.501
    time.sleep(wait)
    assert buckets.take("b", policy, "b", 10) == 0


def test_a_lease_that_is_renewed_stands_on_and_one_that_is_not_there_does_not_come_back(given: Given) -> None:
    buckets, policy = given(), Policy("p", burst=1, concurrency=1)
    assert not buckets.renew("b", "a", 10)
    assert buckets.take("b", policy, "a", 0.5) == 0
    assert buckets.renew("b", "a", 10)
    time.sleep(0.55)
    assert buckets.take("b", policy, "c", 10) == landing(policy)
    assert buckets.renew("b", "a", 0.1)
    time.sleep(0.15)
    assert buckets.take("b", policy, "c", 10) == 0
    assert not buckets.renew("b", "a", 10)


def test_what_one_was_asked_to_wait_all_wait(given: Given) -> None:
    one, another, policy = given(), given(), Policy("p", concurrency=9)
    assert one.take("b", policy, "a", 10) == 0
    one.give_back("b", policy, "a", hold=0.5)
    assert 0 < another.take("b", policy, "b", 10) < 0.501
    # A shorter one does not take it back.
    one.give_back("b", policy, "a", hold=0.01)
    assert 0 < another.take("b", policy, "b", 10) < 0.501
    time.sleep(0.5)
    assert another.take("b", policy, "b", 10) == 0


def test_the_server_never_sees_more_than_the_bucket_however_long_the_way_there_is(given: Given) -> None:
    policy = Policy("p", rate=60, burst=4, concurrency=3)
    arrivals: list[float] = []
    flying, most = 0, 0
    lock = threading.Lock()
    end = time.monotonic() + 1.0

    def call(n: int) -> None:
        nonlocal flying, most
        buckets, chance = given(), random.Random(n)
        while time.monotonic() < end:
            lease = f"{n}-{chance.random()}"
            wait = buckets.take("b", policy, lease, 10)
            if wait > 0:
                time.sleep(min(wait, 0.01))
                continue
            with lock:
                flying += 1
                most = max(most, flying)
            time.sleep(chance.choice([0, 0, 0.002, 0.03]))
            arrivals.append(time.monotonic())
            time.sleep(chance.choice([0, 0, 0.005]))
            with lock:
                flying -= 1
            buckets.give_back("b", policy, lease)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    arrivals.sort()
    assert len(arrivals) > 20
    assert most <= 3
    for first, began in enumerate(arrivals):
        for last in range(first, len(arrivals)):
            assert last - first + 1 <= policy.burst + 60 * (arrivals[last] - began) + 1e-6


@pytest.fixture
def limits(redis_server: Stack) -> "redis.Redis":
    return redis.Redis.from_url(redis_server.redis_url(4))


def test_a_command_that_is_repeated_after_a_broken_connection_takes_one_token(limits: "redis.Redis") -> None:
    with limits:
        buckets, policy = RedisBuckets(limits, namespace="MB"), Policy("p", rate=1, burst=1)
        assert [buckets.take("b", policy, "a", 10) for _ in range(2)] == [0, 0]
        for _ in range(2):
            buckets.give_back("b", policy, "a")
        assert buckets.take("b", policy, "b", 10) <= 1


def test_a_clock_that_is_set_back_keeps_nobody_waiting(limits: "redis.Redis") -> None:
    with limits:
        buckets, policy = RedisBuckets(limits, namespace="MB"), Policy("p", rate=2, burst=1)
        later = (time.time() + 7 * 86400) * 1e6
        limits.hset("MB:http:{b}:state", mapping={"full": later, "hold": later})
        limits.zadd("MB:http:{b}:leases", {"x": later})
        assert 299 < buckets.take("b", policy, "a", 10) <= 300
        limits.hdel("MB:http:{b}:state", "hold")
        assert buckets.take("b", policy, "a", 10) <= 1


def test_nothing_stays_in_redis(limits: "redis.Redis") -> None:
    with limits:
        buckets, policy = RedisBuckets(limits, namespace="MB"), Policy("p", rate=2, burst=1)
        buckets.take("b", policy, "a", 10)
        assert 0 < limits.pttl("MB:http:{b}:leases") <= 20_000
        assert buckets.renew("b", "a", 10)
        assert 0 < limits.pttl("MB:http:{b}:leases") <= 20_000
        buckets.give_back("b", policy, "a", hold=1)
        assert limits.keys("*") == [b"MB:http:{b}:state"]
        assert 0 < limits.pttl("MB:http:{b}:state") <= 3000


def test_a_redis_that_is_away_is_an_error_of_ours() -> None:
    with nobody() as client:
        buckets, policy = RedisBuckets(client, namespace="MB"), Policy("p")
        with pytest.raises(BucketsUnavailableError):
            buckets.take("b", policy, "a", 1)
        with pytest.raises(BucketsUnavailableError):
            buckets.give_back("b", policy, "a")
        with pytest.raises(BucketsUnavailableError):
            buckets.renew("b", "a", 1)
