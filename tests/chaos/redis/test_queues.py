"""The Redis of the queues is full, or made a replica while connections to it live on."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from dramatiq.errors import ConnectionClosed

from events.log.service import Logged
from events.queues.broker import RedisQueues, connect_redis
from producers.bridge.adapters import RedisPublisher
from producers.bridge.publishing import PublishFailedError
from tests.integration.events.queues.support import actor, message, working
from tests.proxy import Proxy
from tests.redis_process import RedisProcess
from tests.waiting import wait_for
from workers.middleware import Retries


@pytest.fixture
def full(start_redis: Callable[..., RedisProcess]) -> Iterator[Callable[[], RedisQueues]]:
    """Makes brokers of a Redis that gets full by `fill`."""
    server = start_redis()
    made: list[RedisQueues] = []

    def make(**options: Any) -> RedisQueues:
        made.append(RedisQueues(server.url(6), **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def fill(broker: RedisQueues) -> None:
    broker.client.config_set("maxmemory-policy", "noeviction")
    broker.client.config_set("maxmemory", 1)
    with pytest.raises(ConnectionClosed, match="OutOfMemory"):
        broker.enqueue_many([message("q", "work", n=-1)])


def noting(seen: list[int]) -> Callable[..., None]:
    def work(*, n: int) -> None:
        seen.append(n)

    return work


def empty(broker: RedisQueues) -> None:
    broker.client.config_set("maxmemory", 0)


def test_workers_work_on_what_is_there(full: Callable[..., RedisQueues]) -> None:
    broker, seen = full(), list[int]()
    actor(broker, "work", "q", noting(seen))
    broker.enqueue_many(message("q", "work", n=n) for n in range(300))
    broker.enqueue_many([message("q", "work", n=300)], delay=500)
    fill(broker)
    with working(broker):
        wait_for(lambda: len(seen) == 301)
        empty(broker)
        broker.enqueue_many([message("q", "work", n=301)])
        wait_for(lambda: len(seen) == 302)
    assert sorted(seen) == list(range(302))


def test_what_fails_is_tried_again(full: Callable[..., RedisQueues]) -> None:
    broker, tries = full(middleware=[Retries(max_retries=3, min_backoff=20, max_backoff=40)]), list[int]()

    def work(*, n: int) -> None:
        tries.append(n)
        if len(tries) < 3:
            raise RuntimeError("again")

    actor(broker, "work", "q", work)
    broker.enqueue_many([message("q", "work", n=7)])
    fill(broker)
    with working(broker):
        wait_for(lambda: tries == [7, 7, 7])
        wait_for(lambda: broker.client.hlen(broker.keys.queue("q").messages) == 0)


def test_what_the_dead_held_is_returned_and_the_living_are_not_taken_for_dead(full: Callable[..., RedisQueues]) -> None:
    dead, living = full(), full()
    seen: list[int] = []
    actor(living, "work", "q", noting(seen))
    dead.enqueue_many(message("q", "work", n=n) for n in range(3))
    assert len(list(dead.fetch("q", 10))) == 3
    dead.client.zadd(dead.keys.heartbeats, {dead.broker_id: 1})
    fill(living)
    with working(living):
        assert living.reap(max_redeliveries=3).returned == 3
        wait_for(lambda: sorted(seen) == [0, 1, 2])
        before = beat_of(living)
        wait_for(lambda: beat_of(living) > before)


def beat_of(broker: RedisQueues) -> float:
    return broker.client.zscore(broker.keys.heartbeats, broker.broker_id) or 0.0


@pytest.fixture
def moved(start_redis: Callable[..., RedisProcess]) -> Iterator[tuple[str, Callable[[], None]]]:
    """An address of database 6, and what makes its server a replica of another, to which the address leads then."""
    old = start_redis()
    new = start_redis(master=old)
    proxy = Proxy(str(old.socket))

    def move() -> None:
        for server, master in ((new, ("NO", "ONE")), (old, ("127.0.0.1", str(new.port)))):
            with redis.Redis.from_url(server.url()) as admin:
                admin.replicaof(*master)
        proxy.lead_to(str(new.socket))

    yield f"redis://127.0.0.1:{proxy.port}/6", move
    proxy.close()


def test_workers_leave_a_master_that_became_a_replica(moved: tuple[str, Callable[[], None]]) -> None:
    url, move = moved
    broker, seen = RedisQueues(url), list[int]()
    actor(broker, "work", "q", noting(seen))
    with working(broker):
        broker.enqueue_many([message("q", "work", n=0)])
        wait_for(lambda: seen == [0])
        move()
        wait_for(lambda: accepted(broker, 1))
        wait_for(lambda: seen == [0, 1])
    broker.close()


def accepted(broker: RedisQueues, n: int) -> bool:
    with suppress(ConnectionClosed):
        return broker.enqueue_many([message("q", "work", n=n)]) == 1
    return False


@pytest.mark.parametrize("transaction", [True, False])
def test_who_is_refused_many_commands_at_once_leaves_it_too(
    start_redis: Callable[..., RedisProcess], transaction: bool
) -> None:
    server = start_redis()
    with connect_redis(server.url(6)) as client, redis.Redis.from_url(server.url()) as admin:
        old = client.client_id()
        admin.replicaof("127.0.0.1", "1")
        with pytest.raises(redis.RedisError), client.pipeline(transaction=transaction) as commands:
            commands.set("a", 1).set("b", 1).execute()
        admin.replicaof("NO", "ONE")
        assert client.client_id() != old
        assert client.set("a", 1)


def test_what_is_published_is_not_left_at_a_master_that_became_a_replica(moved: tuple[str, Callable[[], None]]) -> None:
    url, move = moved
    broker, channels = RedisQueues(url), connect_redis(url)
    publisher = RedisPublisher(channels, broker, "MB")
    event = Logged(1, "edit.opened", b"{}")
    publisher.publish([event], [])
    move()
    with pytest.raises(PublishFailedError, match="read only"):
        publisher.publish([event], [])
    with redis.Redis.from_url(url) as client, client.pubsub() as listener:
        listener.subscribe("MB:events:edit.opened")
        wait_for(lambda: listener.get_message(timeout=0.1))
        publisher.publish([event], [])
        wait_for(lambda: (listener.get_message(timeout=0.1) or {}).get("data") == b"{}")
    channels.close()
    broker.close()
