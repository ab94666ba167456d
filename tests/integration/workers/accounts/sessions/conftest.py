"""Sessions on a real Redis; whether an editor may sign in is the test's to say."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from events.breaker import Breaker
from events.connections import open_client
from ops.stack import Stack
from workers.accounts.sessions.adapters import RedisSessions
from workers.accounts.sessions.service import Sessions, WithoutRedis


class Everybody:
    def may_sign_in(self, editor_id: int) -> bool:  # noqa: ARG002 (the signature is the protocol's)
        return True


def kept(client: "redis.Redis") -> set[Any]:
    """The keys of sessions and of what finds them."""
    return set(client.keys()) - {b"MB:sessions:clock"}


def make_sessions(client: "redis.Redis", *, without_redis: WithoutRedis = "refuse", **limits: Any) -> Sessions:
    """As configured by default, but for these limits."""
    store = RedisSessions(client, **{"seconds": 36_000, "idle_seconds": 10_800, **limits})
    return Sessions(store, Everybody(), without_redis=without_redis)


@pytest.fixture
def client(redis_server: Stack) -> "Iterator[redis.Redis]":
    made = open_client(redis_server.redis_url(1), Breaker("redis sessions"))
    yield made
    made.close()


@pytest.fixture
def sessions(client: "redis.Redis") -> Sessions:
    return make_sessions(client)
