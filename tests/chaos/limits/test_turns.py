"""The clock of the Redis of the turns, by which outside servers are asked, is set while many ask."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

import workers.http.buckets
from tests.chaos.redis.faulty import FaultyRedis
from tests.waiting import wait_for
from workers.http.buckets import RedisBuckets
from workers.http.policies import Policy

HOUR = 3_600.0
# Between two steps of the clock.
EVERY = 0.4
POLICY = Policy("p", rate=60, burst=4, concurrency=3)


@pytest.fixture
def url(faulty: FaultyRedis, monkeypatch: pytest.MonkeyPatch) -> str:
    faulty.clock.require()
    monkeypatch.setattr(workers.http.buckets, "LEASE_SECONDS", 0.5)
    return faulty.url(4)


@pytest.mark.parametrize("ahead", [-0.5, -60, -HOUR, -3 * HOUR, HOUR])
def test_a_call_whose_process_died_keeps_its_place_no_longer(faulty: FaultyRedis, url: str, ahead: float) -> None:
    with redis.Redis.from_url(url) as client:
        buckets, one = RedisBuckets(client, namespace="MB"), Policy("p", concurrency=1)
        assert buckets.take("b", one, "dead", 0.4) == 0
        faulty.set_clock(ahead)
        wait_for(lambda: buckets.take("b", one, "next", 0.4) == 0, seconds=1.5)
        # Nor does it count against who lives.
        assert buckets.renew("b", "next", 0.4)


@pytest.mark.parametrize("steps", [[-0.3, -60, -3 * HOUR], [60, 3 * HOUR, 0, HOUR]], ids=["back", "forward"])
def test_the_server_sees_no_more_than_the_bucket_and_one_that_is_full_again_when_the_clock_is_set_forward(
    faulty: FaultyRedis, url: str, steps: list[float]
) -> None:
    arrivals: list[float] = []
    stop = threading.Event()

    def call(number: int) -> None:
        chance = random.Random(number)
        with redis.Redis.from_url(url) as client:
            buckets = RedisBuckets(client, namespace="MB")
            while not stop.is_set():
                lease = f"{number}-{chance.random()}"
                if (wait := buckets.take("b", POLICY, lease, 0.4)) > 0:
                    time.sleep(min(wait, 0.01))
                    continue
                time.sleep(chance.choice([0, 0.002, 0.02]))
                arrivals.append(time.monotonic())
                buckets.give_back("b", POLICY, lease)

    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(call, number) for number in range(4)]
        for each in steps:
            time.sleep(EVERY)
            faulty.set_clock(each)
        time.sleep(EVERY)
        stop.set()
    assert all(each.exception() is None for each in found)
    arrivals.sort()
    assert len(arrivals) > 5 * len(steps)
    for first, began in enumerate(arrivals):
        for last in range(first, len(arrivals)):
            passed = arrivals[last] - began
            filled = 1 if steps[0] < 0 else 2 + int(passed / EVERY)
            assert last - first + 1 <= filled * POLICY.burst + 60 * passed + 1e-6
