"""The clock of a cache's Redis is set back and forward: nothing becomes stale, nothing stands longer than it may."""

import time

import pytest
import redis

from tests.chaos.redis.faulty import HOURS, FaultyRedis
from workers.leased.adapters import RedisLeased
from workers.leased.core import Lease, Loaded
from workers.leased.service import ReadThrough


@pytest.fixture
def leased(faulty: FaultyRedis) -> RedisLeased:
    faulty.clock.require()
    return RedisLeased(redis.Redis.from_url(faulty.master.url()), "MB:test")


def lease_of(leased: RedisLeased, name: str) -> Lease:
    lease = leased.lease(name).lease
    assert lease is not None
    return lease


def put(leased: RedisLeased, lease: Lease, name: str) -> bool:
    return leased.store(name, lease, Loaded(b"old", ("tag",)), seconds=60, cost=0)


@pytest.mark.parametrize(
    "ahead", [(-HOURS, 0), (-2, 0), (-0.9, 0), (HOURS, 0), (-HOURS, HOURS), (HOURS, -HOURS), (-HOURS, 1)]
)
def test_what_was_loaded_before_an_invalidation_is_not_stored_whatever_the_clock_did_meanwhile(
    faulty: FaultyRedis, leased: RedisLeased, ahead: tuple[float, float]
) -> None:
    assert put(leased, lease_of(leased, "before"), "before")
    slow = lease_of(leased, "slow")
    faulty.set_clock(ahead[0])
    leased.forget(tags=["tag"])
    faulty.set_clock(ahead[1])
    assert not put(leased, slow, "slow")
    assert leased.read(["before", "slow"]) == [None, None]
    assert put(leased, lease_of(leased, "new"), "new")
    assert leased.read(["before", "slow"]) == [None, None]


def test_set_back_no_lease_of_who_died_keeps_others_waiting_and_no_entry_lives_on(
    faulty: FaultyRedis, leased: RedisLeased
) -> None:
    assert put(leased, lease_of(leased, "kept"), "kept")
    lease_of(leased, "of the dead")
    faulty.set_clock(-HOURS)
    assert leased.read(["kept"]) == [None]
    began = time.monotonic()
    assert ReadThrough(leased, "search").get_or_load("of the dead", lambda: Loaded(b"new")) == b"new"
    assert time.monotonic() - began < 0.4
    assert leased.read(["of the dead"]) != [None]
    assert leased.inspect("kept").void is not None
    leased.forget(["kept"])
    # Nor when it is right again.
    faulty.set_clock(0)
    assert leased.read(["kept"]) == [None]
