"""What there is in the caches, counted without stopping anybody."""

from typing import Any

from pydantic import SecretStr

from ops.caches.stats import Cache, Server, gather
from ops.settings import RedisRole, Settings
from ops.wiring import Runtime, open_runtime
from workers.leased.core import Loaded

ARTIST = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"


def found(runtime: Runtime, heard: list[str] | None = None) -> tuple[dict[str, Cache], list[Server]]:
    heard = [] if heard is None else heard
    caches, servers = gather(runtime, heard.append)
    return {cache.name: cache for cache in caches}, servers


def test_entries_are_counted_by_cache_and_type_and_those_of_others_are_not(runtime: Runtime) -> None:
    runtime.entity_cache.get_or_load("artist", ARTIST, runtime.load_entity)
    runtime.entity_cache.get_or_load("work", ARTIST, runtime.load_entity)
    assert runtime.leased(RedisRole.ENTITIES).lease("label:x").lease is not None
    runtime.searches.named("artist", "moby")
    runtime.statistics.refresh()
    runtime.statistics.ask()
    # MusicBrainz Server's own, and what begins alike.
    runtime.client(RedisRole.ENTITIES).mset({"MB:artist:1": "x", "MB:entity2:x": "x"})
    caches, servers = found(runtime)
    assert caches["entity"].kinds == {"artist": 1, "work": 1}
    assert (caches["entity"].entries, caches["entity"].leases, caches["entity"].tags) == (2, 1, 2)
    assert caches["search"].kinds == {"name": 1}
    assert caches["statistics"].kinds["last"] * 2 == caches["statistics"].entries > 0
    assert caches["http"].entries == 0
    assert [server.caches for server in servers] == [("entity",), ("search", "http"), ("statistics",)]
    assert all(server.keys and server.bytes and server.policy and server.problem is None for server in servers)


def test_many_keys_are_told_on_the_way_and_never_asked_for_at_once(runtime: Runtime, monkeypatch: Any) -> None:
    client = runtime.client(RedisRole.ENTITIES)
    client.mset({f"MB:entity:artist:{number}": "x" for number in range(25_000)})
    client.config_resetstat()
    heard: list[str] = []
    caches, _ = found(runtime, heard)
    assert caches["entity"].entries >= 25_000
    assert len(heard) >= 2
    commands = client.info("commandstats")
    assert "cmdstat_keys" not in commands
    assert commands["cmdstat_scan"]["usec_per_call"] < 20_000


def test_a_redis_that_is_away_is_told_and_the_others_all_the_same(runtime: Runtime, settings: Settings) -> None:
    away = settings.model_copy(update={"redis_search_url": SecretStr("redis://:s3cret@127.0.0.1:1")})
    with open_runtime(away) as parts:
        caches, servers = found(parts)
    assert caches["search"].problem is not None
    assert caches["entity"].problem is None
    assert [server.problem is None for server in servers] == [True, False, True]
    assert "s3cret" not in repr((caches, servers))


def test_after_forgetting_all_of_a_cache_nothing_of_it_counts(runtime: Runtime) -> None:
    leased = runtime.leased(RedisRole.SEARCH)
    lease, other = leased.lease("one").lease, leased.lease("two").lease
    assert lease is not None
    assert other is not None
    assert leased.store("one", lease, Loaded(b"x"), seconds=60, cost=0)
    leased.forget_all()
    assert leased.read(["one"]) == [None]
    assert not leased.store("two", other, Loaded(b"x"), seconds=60, cost=0)
    again = leased.lease("one").lease
    assert again is not None
    assert leased.store("one", again, Loaded(b"y"), seconds=60, cost=0)
    assert leased.read(["one"])[0] is not None
