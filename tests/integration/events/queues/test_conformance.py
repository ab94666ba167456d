"""What both brokers promise: one suite, run on Redis and on RabbitMQ."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
import redis
from dramatiq.errors import RateLimitExceeded
from psycopg_pool import ConnectionPool

from events.ledger.messages import task_message
from events.queues.adapters import PostgresDeadLetters
from events.queues.broker import RedisQueues
from events.queues.dead_letters import DeadLetters
from events.queues.letters import DeadLetter, Filter
from events.queues.reaper import Reaper
from events.queues.types import Depth
from events.telemetry import NoTelemetry
from ops.stack import Stack
from tests.integration.events.queues.support import actor, drain, eventually, message, working
from workers.limits.adapters import RedisWindows
from workers.limits.core import Decision, Scope
from workers.limits.service import Limiter
from workers.middleware import RateLimited, Retries

MakeBroker = Callable[..., Any]


class Log:
    """What actors were given, by a number in their message."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, *, n: int, **_: Any) -> None:
        self.seen.append(n)


@pytest.fixture
def letters(pool: "ConnectionPool[Any]") -> PostgresDeadLetters:
    return PostgresDeadLetters(pool.connection)


def buried(pool: "ConnectionPool[Any]") -> list[DeadLetter]:
    letters = DeadLetters(PostgresDeadLetters(pool.connection), lambda _: None)
    return [letters.show(letter.id) for letter in letters.list()]


def send_raw(broker: Any, queue: str, body: bytes, key: str = "raw") -> None:
    """Put something into a queue that no broker of ours would."""
    broker.declare_queue(queue)
    if isinstance(broker, RedisQueues):
        keys = broker.keys.queue(queue)
        broker.client.hset(keys.messages, key, body)
        broker.client.rpush(keys.waiting, key)
        broker.client.publish(broker.keys.wake, queue)
    else:
        broker.declare_queue(queue, ensure=True)
        broker.channel.basic_publish(exchange="", routing_key=queue, body=body)


def test_a_message_is_run_once_with_what_was_sent(make_broker: MakeBroker, middleware: list[Any], queue: str) -> None:
    broker, seen = make_broker(middleware), list[Any]()
    actor(broker, "keep", queue, lambda **kwargs: seen.append(kwargs))
    broker.enqueue(message(queue, "keep", version=1, events=[{"id": "a", "größe": 2**40}]))
    drain(broker)
    assert seen == [{"version": 1, "events": [{"id": "a", "größe": 2**40}]}]


def test_depths_are_known_to_who_has_sent_nothing(make_broker: MakeBroker, middleware: list[Any], queue: str) -> None:
    asker, sender = make_broker(), make_broker(middleware)
    asker.declare_queue(queue)
    assert asker.depths()[queue] == Depth(0, 0, 0, 0, 0.0)
    sender.enqueue(message(queue, "keep", n=1))
    sender.enqueue(message(queue, "keep", n=2), delay=3_600_000)
    eventually(lambda: (asker.depths()[queue].waiting, asker.depths()[queue].delayed) == (1, 1))


def test_events_that_were_encoded_before_are_sent_as_they_are(
    make_broker: MakeBroker, middleware: list[Any], queue: str
) -> None:
    broker, seen = make_broker(middleware), list[Any]()
    actor(broker, "keep", queue, lambda **kwargs: seen.append(kwargs["events"]))
    events = [orjson.Fragment(b'{"id":"a"}'), orjson.Fragment('{"id":"b"}')]
    broker.enqueue_many([task_message(None, queue=queue, actor="keep", events=events)])
    drain(broker)
    assert seen == [[{"id": "a"}, {"id": "b"}]]


def test_one_thread_runs_messages_in_the_order_they_were_sent(
    make_broker: MakeBroker, middleware: list[Any], queue: str
) -> None:
    broker, log = make_broker(middleware), Log()
    actor(broker, "log", queue, log)
    assert broker.enqueue_many(message(queue, "log", n=n) for n in range(1_200)) == 1_200
    drain(broker, threads=1)
    assert log.seen == list(range(1_200))


def test_two_workers_share_a_queue(make_broker: MakeBroker, middleware: list[Any], queue: str) -> None:
    first, second, log = make_broker(middleware), make_broker(middleware), Log()
    started = Counter[str]()

    def slow(name: str) -> Callable[..., None]:
        def work(*, n: int) -> None:
            started[name] += 1
            time.sleep(0.01)
            log(n=n)

        return work

    actor(first, "slow", queue, slow("first"))
    actor(second, "slow", queue, slow("second"))
    with working(first, prefetch=4), working(second, prefetch=4):
        first.enqueue_many(message(queue, "slow", n=n) for n in range(60))
        eventually(lambda: len(log.seen) >= 60)
    assert sorted(log.seen) == list(range(60))
    assert set(started) == {"first", "second"}


def test_slow_work_takes_no_thread_from_other_work(make_broker: MakeBroker, middleware: list[Any], queue: str) -> None:
    broker, log, slow = make_broker(middleware), Log(), f"{queue}slow"
    broker.slow_queues = {slow}
    begun, go_on = threading.Semaphore(0), threading.Event()

    def take_long(**_: Any) -> None:
        begun.release()
        assert go_on.wait(20)

    actor(broker, "slow", slow, take_long)
    actor(broker, "log", queue, log)
    with working(broker, threads=1):
        broker.enqueue_many(message(slow, "slow", n=n) for n in range(5))
        assert begun.acquire(timeout=10)
        broker.enqueue_many(message(queue, "log", n=n) for n in range(20))
        eventually(lambda: log.seen == list(range(20)))
        # The rest is left to other processes.
        assert not begun.acquire(blocking=False)
        go_on.set()
        for _ in range(4):
            assert begun.acquire(timeout=10)


def test_a_delayed_message_waits_for_its_time(make_broker: MakeBroker, middleware: list[Any], queue: str) -> None:
    broker, log = make_broker(middleware), Log()
    actor(broker, "log", queue, log)
    with working(broker):
        before = time.monotonic()
        broker.enqueue(message(queue, "log", n=1), delay=400)
        broker.enqueue(message(queue, "log", n=2))
        eventually(lambda: log.seen == [2])
        eventually(lambda: log.seen == [2, 1])
        assert 0.4 <= time.monotonic() - before < 3


def test_draining_does_not_wait_for_what_is_not_due(make_broker: MakeBroker, middleware: list[Any], queue: str) -> None:
    broker, log = make_broker(middleware), Log()
    actor(broker, "log", queue, log)
    broker.enqueue(message(queue, "log", n=1), delay=3_600_000)
    broker.enqueue(message(queue, "log", n=2))
    drain(broker)
    assert log.seen == [2]
    eventually(lambda: broker.depths()[queue].delayed == 1)


def test_a_failed_actor_is_tried_again(make_broker: MakeBroker, middleware: list[Any], queue: str) -> None:
    broker, tries = make_broker(middleware), list[int]()

    def work(*, n: int) -> None:
        tries.append(n)
        if len(tries) < 3:
            raise RuntimeError("not yet")

    actor(broker, "work", queue, work)
    with working(broker):
        broker.enqueue(message(queue, "work", n=1))
        eventually(lambda: len(tries) == 3)
    depth = broker.depths()[queue]
    assert (depth.waiting, depth.in_progress, depth.delayed, depth.dead) == (0, 0, 0, 0)


def test_work_that_always_fails_becomes_a_dead_letter_and_others_go_on(
    make_broker: MakeBroker, middleware: list[Any], queue: str, pool: "ConnectionPool[Any]"
) -> None:
    broker, log = make_broker(middleware), Log()

    def fail(*, n: int) -> None:
        raise ValueError(f"no {n}, says someone@example.org")

    actor(broker, "fail", queue, fail)
    actor(broker, "log", queue, log)
    with working(broker):
        broker.enqueue(message(queue, "fail", n=1))
        broker.enqueue_many(message(queue, "log", n=n) for n in range(20))
        eventually(lambda: len(buried(pool)) == 1 and len(log.seen) == 20)
    (letter,) = buried(pool)
    assert (letter.queue, letter.actor, letter.attempts) == (queue, "fail", 3)
    assert letter.message is not None
    assert letter.message["kwargs"] == {"n": 1}
    assert letter.error.startswith("ValueError: no 1, says <e-mail>")
    assert "in fail" in letter.error


def test_an_actors_own_limits_count(
    make_broker: MakeBroker, middleware: list[Any], queue: str, pool: "ConnectionPool[Any]"
) -> None:
    broker, tries = make_broker(middleware), Counter[str]()

    def thrown(*, n: int) -> None:
        tries["thrown"] += 1
        raise KeyError(n)

    def often(*, n: int) -> None:
        tries["often"] += 1
        raise ValueError(n)

    def limited(*, n: int) -> None:
        tries["limited"] += 1
        if tries["limited"] < 6:
            raise RateLimitExceeded("wait")

    actor(broker, "thrown", queue, thrown, throws=(KeyError,))
    actor(broker, "often", queue, often, max_retries=4)
    actor(broker, "limited", queue, limited, max_retries=0)
    with working(broker):
        for name in ("thrown", "often", "limited"):
            broker.enqueue(message(queue, name, n=1))
        eventually(lambda: tries["limited"] == 6 and len(buried(pool)) == 2)
    assert tries == {"thrown": 1, "often": 5, "limited": 6}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"\xff not json", "cannot be decoded"),
        (b"[]", "cannot be decoded"),
        (b'{"queue_name": "q"}', "cannot be decoded"),
        (b'{"x": "\\u0000"}', "cannot be decoded"),
    ],
)
def test_what_cannot_be_decoded_is_kept_as_it_came(
    make_broker: MakeBroker,
    middleware: list[Any],
    queue: str,
    pool: "ConnectionPool[Any]",
    letters: PostgresDeadLetters,
    body: bytes,
    told: str,
) -> None:
    broker, log = make_broker(middleware), Log()
    actor(broker, "log", queue, log)
    send_raw(broker, queue, body)
    broker.enqueue(message(queue, "log", n=1))
    with working(broker, duties=[lambda stop: Reaper(broker, letters).run(stop, interval=0.05)]):
        eventually(lambda: len(buried(pool)) == 1 and log.seen == [1])
    (letter,) = buried(pool)
    assert (letter.raw, letter.message, letter.queue) == (body, None, queue)
    assert told in letter.error
    assert broker.depths()[queue].dead == 0


def test_a_message_for_an_unknown_actor_can_be_retried_by_a_release_that_knows_it(
    make_broker: MakeBroker,
    middleware: list[Any],
    queue: str,
    pool: "ConnectionPool[Any]",
    letters: PostgresDeadLetters,
) -> None:
    old, new, log = make_broker(middleware), make_broker(middleware), Log()
    old.declare_queue(queue)
    old.enqueue(message(queue, "log", n=7))
    with working(old, duties=[lambda stop: Reaper(old, letters).run(stop, interval=0.05)]):
        eventually(lambda: len(buried(pool)) == 1)
    assert "no actor is called 'log'" in buried(pool)[0].error
    actor(new, "log", queue, log)
    jobs = DeadLetters(letters, new.enqueue_many)
    assert jobs.retry(Filter()) == 1
    drain(new)
    assert log.seen == [7]
    assert jobs.count() == 0


def test_a_message_of_a_version_that_is_not_known_is_not_even_started(
    make_broker: MakeBroker, middleware: list[Any], queue: str, pool: "ConnectionPool[Any]"
) -> None:
    broker, log = make_broker(middleware), Log()
    actor(broker, "log", queue, log)
    broker.enqueue(message(queue, "log", n=1, version=99))
    broker.enqueue(message(queue, "log", n=2, version=1))
    drain(broker)
    assert log.seen == [2]
    (letter,) = buried(pool)
    assert "version '99'" in letter.error
    assert "retry it on one that knows it" in letter.error
    assert letter.attempts == 1


def test_what_was_not_started_when_a_worker_stops_is_run_by_the_next(
    make_broker: MakeBroker, middleware: list[Any], queue: str
) -> None:
    first, second, log = make_broker(middleware), make_broker(middleware), Log()
    started, go_on = threading.Event(), threading.Event()

    def slow(*, n: int) -> None:
        started.set()
        go_on.wait(10)
        log(n=n)

    actor(first, "slow", queue, slow)
    actor(second, "slow", queue, slow)
    first.enqueue_many(message(queue, "slow", n=n) for n in range(50))
    with working(first, threads=1):
        assert started.wait(10)
        time.sleep(0.2)  # for the rest to be prefetched
        threading.Timer(0.3, go_on.set).start()
    assert log.seen == [0]
    drain(second)
    assert sorted(log.seen) == list(range(50))


def test_dead_messages_are_kept_when_postgres_was_away(
    make_broker: MakeBroker,
    middleware: list[Any],
    queue: str,
    pool: "ConnectionPool[Any]",
    letters: PostgresDeadLetters,
) -> None:
    broker = make_broker(middleware)

    def fail(*, n: int) -> None:
        raise ValueError("always")

    actor(broker, "fail", queue, fail, max_retries=0)
    with pool.connection() as connection:
        connection.execute("ALTER TABLE mbevents.dead_letter RENAME TO away")
    broker.enqueue(message(queue, "fail", n=1))
    drain(broker)
    eventually(lambda: broker.depths()[queue].dead == 1)
    reaper = Reaper(broker, letters)
    with pytest.raises(Exception, match="dead_letter"):
        reaper.run_once()
    with pool.connection() as connection:
        connection.execute("ALTER TABLE mbevents.away RENAME TO dead_letter")

    def moved() -> bool:
        reaper.run_once()
        return len(buried(pool)) == 1

    eventually(moved)
    (letter,) = buried(pool)
    assert letter.error.startswith("ValueError: always")
    eventually(lambda: broker.depths()[queue].dead == 0)


def test_work_beyond_a_rate_limit_is_done_later_and_costs_no_retry(
    make_broker: MakeBroker, queue: str, stack: Stack
) -> None:
    done: list[Decision] = []

    class Noted(RedisWindows):
        def decide(self, scopes: Sequence[Scope]) -> Decision:
            decision = super().decide(scopes)
            done.extend([decision] if decision.allowed else [])
            return decision

    log, one = Log(), Scope("test", queue, 4, 0.3)
    with redis.Redis.from_url(stack.redis_url(4)) as client:
        limiter = Limiter(Noted(client), without_redis="closed", telemetry=NoTelemetry())
        # Not a single retry is to be had.
        broker = make_broker([RateLimited(limiter), Retries(max_retries=0)])
        actor(broker, "work", queue, log, rate_limits=(one,))
        with working(broker):
            broker.enqueue_many(message(queue, "work", n=n) for n in range(12))
            eventually(lambda: len(log.seen) == 12)
    assert sorted(log.seen) == [*range(12)]
    times = sorted(each.at for each in done)
    assert all(later - at >= one.window_us for at, later in zip(times, times[4:], strict=False))
