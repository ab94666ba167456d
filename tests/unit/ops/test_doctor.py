from ops.doctor import Finding, _policy, healthy
from ops.settings import RedisRole


def test_a_store_that_evicts_is_a_fault_only_where_nothing_may_go() -> None:
    broker = _policy("redis broker", RedisRole.BROKER, "allkeys-lru", 2**20, "7.2", used=0)
    assert broker.ok is False
    assert broker.fix is not None
    assert "config set maxmemory-policy noeviction" in broker.fix
    assert _policy("redis sessions", RedisRole.SESSIONS, "volatile-ttl", 0, "7.2", used=0).ok is False
    assert _policy("redis entities", RedisRole.ENTITIES, "allkeys-lru", 2**20, "7.2", used=0).ok
    assert _policy("redis broker", RedisRole.BROKER, "noeviction", 0, "7.2", used=0).ok


def test_a_store_that_is_full_and_evicts_nothing_is_a_fault() -> None:
    cache = _policy("redis search", RedisRole.SEARCH, "noeviction", 100 << 20, "7.2", used=96 << 20)
    assert (cache.ok, cache.detail) == (
        False,
        "it is full: 96 of 100 MiB, and noeviction refuses what is to be written",
    )
    assert "allkeys-lru" in str(cache.fix)
    limits = _policy("redis limits", RedisRole.LIMITS, "noeviction", 100 << 20, "7.2", used=96 << 20)
    assert (limits.ok, limits.fix) == (False, "Raise its maxmemory.")
    # Channels have no keys: there is nothing that could be evicted.
    assert _policy("redis pubsub", RedisRole.PUBSUB, "noeviction", 100 << 20, "7.2", used=96 << 20).fix == limits.fix
    assert _policy("redis search", RedisRole.SEARCH, "allkeys-lru", 100 << 20, "7.2", used=99 << 20).ok


def test_what_could_not_be_looked_at_is_no_fault_of_its_own() -> None:
    assert healthy([Finding("a", True, ""), Finding("b", None, "")])
    assert not healthy([Finding("a", True, ""), Finding("b", False, "")])
