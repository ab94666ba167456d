"""Leases that stand while their holders live."""

import time
from collections.abc import Iterator

import pytest
import redis

from ops.stack import Stack
from tests.waiting import wait_for
from workers.leased.adapters import RedisLeased
from workers.leased.core import Loaded
from workers.leased.keeping import Keeper, KeptLeased


@pytest.fixture
def short(redis_server: Stack) -> Iterator[RedisLeased]:
    with redis.Redis.from_url(redis_server.redis_url(2)) as client:
        yield RedisLeased(client, "MB:kept", lease_seconds=0.5)


def test_a_lease_outlives_its_length_while_its_holder_lives(short: RedisLeased) -> None:
    kept = KeptLeased(short, longest=60, keeper=Keeper(every=0.02))
    lease = kept.lease("a").lease
    assert lease is not None
    time.sleep(0.8)
    assert short.lease("a") == (None, None)
    assert kept.store("a", lease, Loaded(b"late"), seconds=60, cost=0.5)


def test_it_ends_soon_after_its_holder(short: RedisLeased) -> None:
    # Of a process that is killed nothing renews it.
    assert KeptLeased(short, longest=60, keeper=Keeper(every=60)).lease("a").lease is not None
    wait_for(lambda: short.lease("a").lease is not None, seconds=5)


def test_it_stands_no_longer_than_the_longest_load(short: RedisLeased) -> None:
    assert KeptLeased(short, longest=0.3, keeper=Keeper(every=0.02)).lease("a").lease is not None
    wait_for(lambda: short.lease("a").lease is not None, seconds=5)


def test_what_is_given_back_or_forgotten_is_not_renewed(short: RedisLeased) -> None:
    kept = KeptLeased(short, longest=60, keeper=Keeper(every=0.02))
    one, another = kept.lease("a").lease, kept.lease("b").lease
    assert one is not None
    assert another is not None
    kept.give_back("a", one)
    assert short.lease("a").lease is not None
    kept.forget(["b"])
    time.sleep(0.1)
    assert short.lease("b").lease is not None
    assert not kept.store("b", another, Loaded(b"old"), seconds=60, cost=0)
