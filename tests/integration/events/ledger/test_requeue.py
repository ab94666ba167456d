"""Ledgered work whose message is lost is enqueued again."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from events.ledger import service
from events.ledger.messages import task_message
from events.ledger.requeue import Requeuer
from events.ledger.service import NewTask
from events.queues.adapters import PostgresDeadLetters
from events.queues.broker import RedisQueues
from events.queues.dead_letters import DeadLetters
from events.queues.letters import Filter

MakeBroker = Callable[..., RedisQueues]


def load(positions: Sequence[int]) -> list[dict[str, Any]]:
    return [{"position": position} for position in positions if position >= 0]


@pytest.fixture
def broker(redis_broker: MakeBroker) -> RedisQueues:
    return redis_broker()


@pytest.fixture
def requeuer(pool: "ConnectionPool[Any]", broker: RedisQueues) -> Requeuer:
    return Requeuer(pool.connection, broker, load, grace=0)


def add(pool: "ConnectionPool[Any]", count: int, *, position: int = 1) -> list[int]:
    with pool.connection() as connection:
        return service.add(connection, [NewTask("work", "q", [position])] * count)


def send(broker: RedisQueues, ids: Iterable[int]) -> None:
    broker.enqueue_many(task_message(each, queue="q", actor="work", events=[]) for each in ids)


def in_queue(broker: RedisQueues) -> list[int]:
    return sorted(int(key) for key in broker.client.hkeys(broker.keys.queue("q").messages))


def enqueues(pool: "ConnectionPool[Any]") -> list[int]:
    with pool.connection() as connection:
        return [row[0] for row in connection.execute("SELECT enqueues FROM mbevents.task ORDER BY id").fetchall()]


def test_work_that_never_came_into_its_queue_is_enqueued(
    pool: "ConnectionPool[Any]", broker: RedisQueues, requeuer: Requeuer
) -> None:
    ids = add(pool, 3)
    send(broker, ids[:1])
    assert requeuer.run_once() == 2
    assert in_queue(broker) == ids
    assert enqueues(pool) == [1, 2, 2]
    assert requeuer.run_once() == 0
    ((_, data, _), *_) = list(broker.fetch("q", 3))[1:]
    assert b'"events":[{"position":1}]' in data


def test_work_that_waits_runs_is_delayed_or_is_dead_is_left_alone(
    pool: "ConnectionPool[Any]", broker: RedisQueues, requeuer: Requeuer
) -> None:
    ids = add(pool, 4)
    send(broker, ids[:3])
    broker.enqueue(task_message(ids[3], queue="q", actor="work", events=[]), delay=60_000)
    running, dead, _ = (key.decode() for key, _, _ in broker.fetch("q", 3))
    broker.bury("q", dead, "no")
    assert requeuer.run_once() == 0
    assert running == str(ids[0])
    assert enqueues(pool) == [1, 1, 1, 1]


def test_work_that_is_done_or_dead_in_the_ledger_is_left_alone(
    pool: "ConnectionPool[Any]", broker: RedisQueues, requeuer: Requeuer
) -> None:
    done, dead = add(pool, 2)
    with pool.connection() as connection:
        service.complete(connection, done)
        service.fail(connection, dead, "no")
    assert requeuer.run_once() == 0
    assert in_queue(broker) == []


def test_the_grace_is_for_the_bridge_to_send_what_it_has_just_written(
    pool: "ConnectionPool[Any]", broker: RedisQueues
) -> None:
    add(pool, 1)
    assert Requeuer(pool.connection, broker, load, grace=60).run_once() == 0


def test_all_work_is_enqueued_again_when_redis_lost_its_data(
    pool: "ConnectionPool[Any]", broker: RedisQueues, requeuer: Requeuer
) -> None:
    ids = add(pool, 2_500)
    send(broker, ids)
    assert requeuer.run_once() == 0
    broker.client.flushall()
    assert requeuer.run_once() == 2_500
    assert in_queue(broker) == ids
    assert requeuer.run_once() == 0


def test_only_what_became_overdue_is_looked_at_until_the_next_sweep(
    pool: "ConnectionPool[Any]", broker: RedisQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    requeuer = Requeuer(pool.connection, broker, load, grace=0)
    ids = add(pool, 5)
    with pool.connection() as connection:
        connection.execute("UPDATE mbevents.task SET enqueued_at = now() - interval '1 hour'")
    send(broker, ids)
    asked: list[int] = []
    has_messages = broker.has_messages

    def noted(queue_name: str, task_ids: Sequence[int]) -> list[bool]:
        asked.extend(task_ids)
        return has_messages(queue_name, task_ids)

    monkeypatch.setattr(broker, "has_messages", noted)
    requeuer.run_once()
    new = add(pool, 2)
    send(broker, new)
    requeuer.run_once()
    asked.clear()
    requeuer.run_once()
    assert set(asked) == set(new)


def test_two_requeuers_at_once_enqueue_work_once(pool: "ConnectionPool[Any]", broker: RedisQueues) -> None:
    ids = add(pool, 500)
    requeuers = [Requeuer(pool.connection, broker, load, grace=0) for _ in range(2)]
    threads = [threading.Thread(target=each.run_once) for each in requeuers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_queue(broker) == ids
    assert broker.depths()["q"].waiting == 500


def test_work_whose_events_are_gone_is_a_dead_letter_that_can_only_be_discarded(
    pool: "ConnectionPool[Any]", requeuer: Requeuer
) -> None:
    lost, kept = add(pool, 1, position=-5) + add(pool, 1)
    assert requeuer.run_once() == 1
    jobs = DeadLetters(PostgresDeadLetters(pool.connection), lambda _: None)
    (letter,) = jobs.list()
    assert (letter.task_id, letter.actor) == (lost, "work")
    assert "positions -5 to -5) are no longer in the log" in letter.error
    assert jobs.retry(Filter()) == 0
    assert jobs.discard(Filter()) == 1
    with pool.connection() as connection:
        assert [service.state(connection, task) for task in (lost, kept)] == [None, "queued"]


def test_for_a_broker_that_cannot_be_asked_age_decides(pool: "ConnectionPool[Any]") -> None:
    sent: list[int] = []

    class Blind:
        def enqueue_many(self, messages: Iterable[Any]) -> int:
            sent.extend(each.options["task_id"] for each in messages)
            return 0

    old, _ = add(pool, 2)
    with pool.connection() as connection:
        connection.execute("UPDATE mbevents.task SET enqueued_at = now() - interval '90 s' WHERE id = %s", (old,))
    requeuer = Requeuer(pool.connection, Blind(), load)
    assert requeuer.run_once() == 1
    assert requeuer.run_once() == 0
    assert sent == [old]


def test_it_outlasts_servers_that_are_away(pool: "ConnectionPool[Any]", broker: RedisQueues) -> None:
    ids, stop, failures = add(pool, 1), threading.Event(), 0

    def flaky(positions: Sequence[int]) -> list[dict[str, Any]]:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise psycopg.OperationalError("away")
        stop.set()
        return load(positions)

    Requeuer(pool.connection, broker, flaky, grace=0).run(stop, interval=0.01)
    assert in_queue(broker) == ids
