"""What a store of leased entries promises: one suite for the stand-in of the unit tests and for Redis."""

import secrets
import time
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from events.errors import UsageError
from tests.integration.workers.caches.conftest import Clients
from tests.unit.workers.leased.making import FakeLeased
from workers.leased.adapters import RedisLeased
from workers.leased.core import Lease, Loaded
from workers.leased.service import Leased, StoreUnavailableError

NAME = "artist:x"
PREFIX = "MB:test"


@pytest.fixture(params=["fake", "redis"])
def leased(request: pytest.FixtureRequest) -> Iterator[Leased]:
    if request.param == "fake":
        yield FakeLeased()
    else:
        clients: Clients = request.getfixturevalue("clients")
        yield RedisLeased(clients.entities, PREFIX)


def lease_of(leased: Leased, name: str = NAME, *, anew: bool = False) -> Lease:
    lease = leased.lease(name, anew=anew).lease
    assert lease is not None
    return lease


def put(leased: Leased, body: bytes | None, *tags: str, name: str = NAME, lease: Lease | None = None) -> bool:
    return leased.store(name, lease or lease_of(leased, name), Loaded(body, tags), seconds=60, cost=0.25)


def body_of(leased: Leased, name: str = NAME) -> bytes | None:
    found = leased.read([name])[0]
    return None if found is None else found.body


@pytest.mark.parametrize("body", [b'{"name":"\xc3\xb8"}', b"", b"\x00\n\xff", b"+", None])
def test_what_is_stored_under_a_lease_is_read(leased: Leased, body: bytes | None) -> None:
    assert leased.read([NAME, "other"]) == [None, None]
    assert put(leased, body, "one", "two")
    found, other = leased.read([NAME, "other"])
    assert other is None
    assert found is not None
    assert (found.body, found.tags, found.cost) == (body, ("one", "two"), 0.25)
    assert 59 < found.left <= 60
    taken = leased.lease(NAME)
    assert taken.lease is None
    assert taken.found is not None
    assert taken.found.body == body


def test_one_gets_the_lease_and_the_next_one_when_it_was_given_back(leased: Leased) -> None:
    lease = lease_of(leased)
    assert leased.lease(NAME) == (None, None)
    lease_of(leased, "other")
    leased.give_back(NAME, lease)
    other = lease_of(leased)
    leased.give_back(NAME, lease)
    assert leased.lease(NAME) == (None, None)
    assert not put(leased, b"{}", lease=lease)
    assert put(leased, b"{}", lease=other)


def test_a_lease_is_good_for_one_entry(leased: Leased) -> None:
    lease = lease_of(leased)
    assert put(leased, b"1", lease=lease)
    assert not put(leased, b"2", lease=lease)
    assert body_of(leased) == b"1"


def test_who_wants_it_anew_gets_the_lease_while_others_are_served(leased: Leased) -> None:
    assert put(leased, b"1")
    lease = lease_of(leased, anew=True)
    taken = leased.lease(NAME, anew=True)
    assert taken.lease is None
    assert taken.found is not None
    assert body_of(leased) == b"1"
    assert put(leased, b"2", lease=lease)
    assert body_of(leased) == b"2"


def test_what_was_read_before_the_invalidation_is_not_stored_after_it(leased: Leased) -> None:
    lease = lease_of(leased)
    assert leased.forget([NAME]) == [0]
    assert not put(leased, b"old", lease=lease)
    assert body_of(leased) is None


def test_nor_is_it_when_another_reader_holds_the_lease_by_then(leased: Leased) -> None:
    slow = lease_of(leased)
    leased.forget([NAME])
    quick = lease_of(leased)
    assert not put(leased, b"old", lease=slow)
    assert put(leased, b"new", lease=quick)
    assert body_of(leased) == b"new"


def test_nor_what_depends_on_a_tag_that_was_invalidated_meanwhile_although_only_the_load_found_that(
    leased: Leased,
) -> None:
    assert put(leased, b"1", "else", name="first")
    lease, free = lease_of(leased), lease_of(leased, "free")
    leased.forget(tags=["artist:1", "artist:2"])
    assert not put(leased, b"old", "artist:3", "artist:2", lease=lease)
    assert body_of(leased) is None
    assert put(leased, b"good", "artist:3", name="free", lease=free)
    # Loaded again it is what it is now.
    assert put(leased, b"new", "artist:3", "artist:2")
    assert body_of(leased) == b"new"
    assert body_of(leased, "first") == b"1"


def test_a_tag_expires_all_that_have_it_and_nothing_else(leased: Leased) -> None:
    for number in range(5):
        assert put(leased, b"%d" % number, f"tag:{number}", "tag:all" if number < 3 else "tag:rest", name=f"{number}")
    leased.forget(tags=["tag:1"])
    assert [body_of(leased, f"{number}") for number in range(5)] == [b"0", None, b"2", b"3", b"4"]
    assert put(leased, b"new", "tag:1", "tag:all", name="1")
    leased.forget(tags=["tag:all", "nobody has it"])
    assert [body_of(leased, f"{number}") for number in range(5)] == [None, None, None, b"3", b"4"]


def test_forgetting_tells_what_was_there(leased: Leased) -> None:
    names = [f"{number}" for number in range(2_500)]
    for name in names[::1000]:
        assert put(leased, b"{}", name=name)
    were_there = leased.forget(names)
    assert [place for place, number in enumerate(were_there) if number] == [0, 1000, 2000]
    assert len(were_there) == len(names)
    assert leased.forget([names[0]]) == [0]
    assert leased.forget([]) == []


def test_many_are_read_at_once_in_their_order(leased: Leased) -> None:
    for number in range(0, 2_500, 700):
        assert put(leased, b"%d" % number, "tag", name=f"{number}")
    found = leased.read([f"{number}" for number in range(2_500)])
    assert len(found) == 2_500
    assert {place: each.body for place, each in enumerate(found) if each} == {
        number: b"%d" % number for number in range(0, 2_500, 700)
    }


def test_entries_and_leases_end_and_a_stale_one_is_told(clients: Clients) -> None:
    leased = RedisLeased(clients.entities, PREFIX, lease_seconds=0.3)
    assert leased.store(NAME, lease_of(leased), Loaded(b"{}"), seconds=0.05, cost=0)
    assert leased.store("s", lease_of(leased, "s"), Loaded(b"{}", stale_seconds=60), seconds=0.05, cost=0)
    lease = lease_of(leased, "other")
    time.sleep(0.35)
    assert body_of(leased) is None
    assert not put(leased, b"{}", name="other", lease=lease)
    lease_of(leased, "other")
    stale = leased.read(["s"])[0]
    assert stale is not None
    assert -10 < stale.left < 0


@pytest.mark.parametrize("lost", ["clock", "tag:every:artist"])
def test_when_redis_lost_what_tells_validity_nothing_is_valid_for_good(clients: Clients, lost: str) -> None:
    leased = RedisLeased(clients.entities, PREFIX)
    assert put(leased, b"{}", "every:artist")
    lease = lease_of(leased, "late")
    clients.entities.delete(f"{PREFIX}:{lost}")
    assert body_of(leased) is None
    leased.forget(tags=["every:artist"])
    assert put(leased, b"1", "every:artist", name="new")
    assert body_of(leased, "new") == b"1"
    assert body_of(leased) is None
    assert not put(leased, b"old", "every:artist", name="late", lease=lease)


@pytest.mark.parametrize("lost", ["epoch", "clock"])
def test_tags_of_a_clock_that_was_lost_keep_nothing_from_being_stored(clients: Clients, lost: str) -> None:
    leased = RedisLeased(clients.entities, PREFIX)
    assert put(leased, b"{}", "every:artist")
    leased.forget(tags=["every:label", "every:artist"])
    assert put(leased, b"{}", "every:artist")
    if lost == "epoch":
        leased.forget_all()
    else:
        clients.entities.delete(f"{PREFIX}:clock")
    assert put(leased, b"1", "every:artist", name="new")
    assert body_of(leased, "new") == b"1"
    assert body_of(leased) is None
    lease = lease_of(leased, "late")
    leased.forget(tags=["every:artist"])
    assert body_of(leased, "new") is None
    assert not put(leased, b"old", "every:artist", name="late", lease=lease)


def evict(client: "redis.Redis", *, megabytes: int = 4) -> None:
    """Fill Redis with what ends soon, and have it throw some of that away."""
    policy = client.config_get("maxmemory-policy")["maxmemory-policy"] or "noeviction"
    before = client.info("stats")["evicted_keys"]
    client.mset({f"junk:{number}": b"x" * 10_000 for number in range(100 * megabytes)})
    for number in range(100 * megabytes):
        client.pexpire(f"junk:{number}", 5_000)
    client.config_set("maxmemory-policy", "volatile-ttl")
    client.config_set("maxmemory", client.info("memory")["used_memory"] - (megabytes << 18))
    try:
        client.set("more", 1, ex=5)
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", policy)
    assert client.info("stats")["evicted_keys"] > before


def test_a_tag_that_was_invalidated_and_thrown_away_keeps_what_was_loaded_before_from_being_stored(
    clients: Clients,
) -> None:
    leased = RedisLeased(clients.entities, PREFIX)
    late, later = lease_of(leased, "late"), lease_of(leased, "later")
    leased.forget(tags=["every:artist"])
    evict(clients.entities)
    # What the test makes sure of; the junk went first.
    clients.entities.delete(f"{PREFIX}:tag:every:artist")
    assert not put(leased, b"old", "every:artist", name="late", lease=late)
    assert not put(leased, b"old", "every:artist", name="later", lease=later)
    assert put(leased, b"new", "every:artist", name="late")
    assert body_of(leased, "late") == b"new"


@pytest.mark.parametrize(
    "junk", [b'{"name": "x"}', b"", b"\n", b"abc 0 0 0\n+x", b"0 " * 400, b"abc inf 0 0 \n+x", b"\xff\xfe 1 2 3\n+"]
)
def test_what_somebody_else_wrote_under_our_key_is_a_miss_and_is_replaced(clients: Clients, junk: bytes) -> None:
    leased = RedisLeased(clients.entities, PREFIX)
    lease_of(leased, "other")
    clients.entities.set(f"{PREFIX}:{NAME}", junk)
    assert body_of(leased) is None
    assert put(leased, b"{}")
    assert body_of(leased) == b"{}"


def test_a_lease_whose_answer_was_lost_is_had_when_the_command_is_repeated(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased = RedisLeased(clients.entities, PREFIX)
    monkeypatch.setattr(secrets, "token_hex", lambda size: "ab" * size)
    taken = lease_of(leased)
    assert lease_of(leased) == taken
    assert put(leased, b"{}", lease=taken)


@pytest.mark.parametrize("name", ["clock", "lease:name", "tag:name"])
def test_an_entry_is_not_named_as_what_the_store_keeps_beside_it(clients: Clients, name: str) -> None:
    leased = RedisLeased(clients.entities, PREFIX)
    for work in (lambda: leased.read([name]), lambda: leased.lease(name), lambda: leased.forget([name])):
        with pytest.raises(UsageError, match="No entry may be named"):
            work()


def test_a_full_redis_stores_nothing_and_still_forgets(clients: Clients) -> None:
    leased = RedisLeased(clients.entities, PREFIX)
    assert put(leased, b"{}")
    assert put(leased, b"{}", "tag", name="tagged")
    lease = lease_of(leased, "other")
    clients.entities.config_set("maxmemory", 1)
    try:
        assert not put(leased, b"{}", name="other", lease=lease)
        with pytest.raises(StoreUnavailableError, match="OutOfMemory"):
            leased.lease("more")
        assert body_of(leased, "tagged") == b"{}"
        assert leased.forget([NAME], ["tag"]) == [1]
        assert body_of(leased, "tagged") is None
    finally:
        clients.entities.config_set("maxmemory", 0)
    assert body_of(leased) is None
    # It was given back, full or not.
    lease_of(leased, "other")


def test_scripts_that_redis_forgot_are_told_to_it_again(clients: Clients) -> None:
    leased = RedisLeased(clients.entities, PREFIX)
    assert put(leased, b"{}")
    clients.entities.script_flush()
    assert body_of(leased) == b"{}"


def test_a_redis_that_is_gone_is_told() -> None:
    gone = redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=Retry(NoBackoff(), 0))
    leased = RedisLeased(gone, PREFIX)
    for call in (lambda: leased.read([NAME]), lambda: leased.lease(NAME), lambda: leased.forget([NAME])):
        with pytest.raises(StoreUnavailableError, match="does not answer as it should: ConnectionError"):
            call()
