"""The Redis of turns and answers frozen or full; more of that is in tests/chaos/http."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from events.breaker import Breaker
from events.connections import open_client
from ops.stack.redis import EmbeddedRedis
from tests.integration.workers.http.hostile import answers, hostile
from tests.integration.workers.http.making import Make, kind
from tests.own_redis import server
from tests.waiting import wait_for
from workers.http.answers import Answers, Caching
from workers.http.buckets import RedisBuckets
from workers.http.core import Answer, Kind
from workers.http.policies import Policies, Policy
from workers.http.service import HttpClient
from workers.leased.adapters import RedisLeased

__all__ = ["server"]


@pytest.fixture
def one(server: EmbeddedRedis, client: Make) -> Iterator[HttpClient]:
    redis = open_client(server.url(), Breaker("redis test", open_seconds=0.3), seconds=0.5)
    yield client(
        policies=Policies([Policy("closed", ("127.0.0.1",), rate=1000, burst=9, without_redis="closed")]),
        buckets=RedisBuckets(redis, namespace="MB"),
        answers=Answers(RedisLeased(redis, "MB:http", lease_seconds=10)),
    )
    redis.close()


def test_a_call_that_ends_while_it_is_frozen_keeps_nobody_from_the_host_afterwards(
    server: EmbeddedRedis, client: Make
) -> None:
    clients = [open_client(server.url(), Breaker(f"redis {n}", open_seconds=0.3), seconds=0.5) for n in range(2)]
    policies = Policies([Policy("one", ("127.0.0.1",), rate=1000, burst=1, without_redis="closed")])
    one, another = (client(policies=policies, buckets=RedisBuckets(each, namespace="MB")) for each in clients)
    go = threading.Event()
    with hostile(lambda connection: go.wait(10) and answers()(connection), answers()) as upstream:
        calling = threading.Thread(target=one.get, args=(upstream.url,), kwargs={"deadline": 600})
        calling.start()
        wait_for(lambda: upstream.requests)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        go.set()
        calling.join(10)
        for each in (one, another):
            assert kind(each.get(upstream.url)) is Kind.LIMITED
        os.kill(server.pid, signal.SIGCONT)
        wait_for(lambda: isinstance(one.get(upstream.url), Answer), seconds=3)
        wait_for(lambda: isinstance(another.get(upstream.url), Answer), seconds=3)
    for connection in clients:
        connection.close()


def test_a_full_one_gives_turns_and_keeps_nothing(server: EmbeddedRedis, one: HttpClient) -> None:
    redis = open_client(server.url(), Breaker("redis test"))
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", "1")
    with hostile(answers()) as upstream:
        for _ in range(2):
            assert isinstance(one.get(upstream.url, caching=Caching(fresh=60)), Answer)
        assert len(upstream.requests) == 2
    redis.close()
