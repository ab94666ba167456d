"""What entries promise: one suite for the stand-in of the unit tests and for Redis."""

import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.unit.workers.caches.making import FakeEntries, mbid
from workers.caches.adapters import RedisEntries
from workers.caches.keys import Cached, EntityKey, Lease, Redirect
from workers.caches.service import CacheUnavailableError, Entries

from .conftest import Clients

KEY = EntityKey("artist", mbid())


@pytest.fixture(params=["fake", "redis"])
def entries(request: pytest.FixtureRequest) -> Iterator[Entries]:
    if request.param == "fake":
        yield FakeEntries()
    else:
        clients: Clients = request.getfixturevalue("clients")
        yield RedisEntries(clients.entities)


def lease_of(entries: Entries, key: EntityKey = KEY) -> Lease:
    lease = entries.lease(key)
    assert isinstance(lease, Lease)
    return lease


@pytest.mark.parametrize("known", [b'{"name":"\xc3\xb8"}', Redirect(mbid()), None])
def test_what_is_stored_under_a_lease_is_read(entries: Entries, known: bytes | Redirect | None) -> None:
    assert entries.read(KEY) is None
    assert entries.store(KEY, lease_of(entries), known, seconds=60)
    assert entries.read(KEY) == Cached(known)
    assert entries.lease(KEY) == Cached(known)
    assert entries.read(EntityKey("label", KEY.mbid)) is None


def test_one_gets_the_lease_and_the_next_one_when_it_was_given_back(entries: Entries) -> None:
    lease = lease_of(entries)
    assert entries.lease(KEY) is None
    lease_of(entries, EntityKey("artist", mbid()))
    entries.give_back(KEY, lease)
    other = lease_of(entries)
    entries.give_back(KEY, lease)
    assert entries.lease(KEY) is None
    assert not entries.store(KEY, lease, b"{}", seconds=60)
    assert entries.store(KEY, other, b"{}", seconds=60)


def test_a_lease_is_good_for_one_entry(entries: Entries) -> None:
    lease = lease_of(entries)
    assert entries.store(KEY, lease, b"1", seconds=60)
    assert not entries.store(KEY, lease, b"2", seconds=60)
    assert entries.read(KEY) == Cached(b"1")


def test_an_old_row_that_was_read_before_the_invalidation_is_not_stored_after_it(entries: Entries) -> None:
    lease = lease_of(entries)
    assert entries.forget([KEY]) == [0]
    assert not entries.store(KEY, lease, b'"old"', seconds=60)
    assert entries.read(KEY) is None


def test_nor_is_it_when_another_reader_holds_the_lease_by_then(entries: Entries) -> None:
    slow = lease_of(entries)
    entries.forget([KEY])
    quick = lease_of(entries)
    assert not entries.store(KEY, slow, b'"old"', seconds=60)
    assert entries.store(KEY, quick, b'"new"', seconds=60)
    assert entries.read(KEY) == Cached(b'"new"')


def test_forgetting_tells_what_was_there(entries: Entries) -> None:
    keys = [EntityKey("work", mbid()) for _ in range(2_500)]
    for key in keys[::1000]:
        assert entries.store(key, lease_of(entries, key), b"{}", seconds=60)
    were_there = entries.forget(keys)
    assert [place for place, number in enumerate(were_there) if number] == [0, 1000, 2000]
    assert len(were_there) == len(keys)
    assert entries.forget([keys[0]]) == [0]
    assert entries.forget([]) == []


def test_a_voided_type_is_forgotten_with_its_leases_and_no_other_type_is(entries: Entries) -> None:
    loading, other = EntityKey("artist", mbid()), EntityKey("label", KEY.mbid)
    for key in (KEY, other):
        assert entries.store(key, lease_of(entries, key), b"{}", seconds=60)
    lease = lease_of(entries, loading)
    assert entries.forget([], ["artist"]) == []
    assert entries.read(KEY) is None
    assert not entries.store(loading, lease, b"{}", seconds=60)
    assert entries.read(other) == Cached(b"{}")
    # A new generation begins with the next lease, and the old entries stay void.
    fresh = EntityKey("artist", mbid())
    assert entries.store(fresh, lease_of(entries, fresh), b"1", seconds=60)
    assert entries.read(fresh) == Cached(b"1")
    assert entries.read(KEY) is None
    assert entries.store(KEY, lease_of(entries), b"2", seconds=60)
    assert entries.read(KEY) == Cached(b"2")
    assert entries.store(loading, lease_of(entries, loading), b"3", seconds=60)


def test_a_lease_of_an_old_generation_is_void_in_the_new_one(entries: Entries) -> None:
    lease = lease_of(entries)
    entries.forget([], ["artist"])
    lease_of(entries, EntityKey("artist", mbid()))
    assert not entries.store(KEY, lease, b"{}", seconds=60)
    assert isinstance(entries.lease(KEY), Lease)


def test_entries_and_leases_end(clients: Clients) -> None:
    entries = RedisEntries(clients.entities, lease_seconds=0.05)
    assert entries.store(KEY, lease_of(entries), b"{}", seconds=0.05)
    other = EntityKey("artist", mbid())
    lease = lease_of(entries, other)
    time.sleep(0.1)
    assert entries.read(KEY) is None
    assert not entries.store(other, lease, b"{}", seconds=60)
    lease_of(entries, other)


def test_a_generation_that_was_evicted_voids_its_entries_for_good(clients: Clients) -> None:
    entries = RedisEntries(clients.entities)
    assert entries.store(KEY, lease_of(entries), b"{}", seconds=60)
    clients.entities.delete("MB:entity:artist:generation")
    assert entries.read(KEY) is None
    lease_of(entries, EntityKey("artist", mbid()))
    assert entries.read(KEY) is None


def test_what_somebody_else_wrote_under_our_key_is_a_miss_and_is_replaced(clients: Clients) -> None:
    entries = RedisEntries(clients.entities)
    lease_of(entries, EntityKey("artist", mbid()))
    clients.entities.set(f"MB:entity:artist:{KEY.mbid}", b'{"name": "x"}')
    assert entries.read(KEY) is None
    assert entries.store(KEY, lease_of(entries), b"{}", seconds=60)
    assert entries.read(KEY) == Cached(b"{}")


def test_a_full_redis_still_forgets(clients: Clients) -> None:
    entries = RedisEntries(clients.entities)
    assert entries.store(KEY, lease_of(entries), b"{}", seconds=60)
    other = EntityKey("artist", mbid())
    lease = lease_of(entries, other)
    clients.entities.config_set("maxmemory", 1)
    try:
        with pytest.raises(CacheUnavailableError, match="OutOfMemory"):
            entries.store(other, lease, b"{}", seconds=60)
        assert entries.forget([KEY], ["label"]) == [1]
    finally:
        clients.entities.config_set("maxmemory", 0)
    assert entries.read(KEY) is None


def test_a_redis_that_is_gone_is_told() -> None:
    entries = RedisEntries(redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=Retry(NoBackoff(), 0)))
    for call in (lambda: entries.read(KEY), lambda: entries.lease(KEY), lambda: entries.forget([KEY])):
        with pytest.raises(CacheUnavailableError, match="Redis of the caches: ConnectionError"):
            call()
