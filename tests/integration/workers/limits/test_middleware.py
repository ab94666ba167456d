"""Work that a rate limit puts off. That both brokers do it is among what they promise: `test_conformance`."""

import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from events.queues.consumer import QueuedMessage
from events.telemetry import NoTelemetry
from ops.stack import Stack
from tests.integration.events.queues.conftest import queue, quick_stop, redis_broker
from tests.integration.events.queues.support import actor, drain, message, working
from tests.waiting import wait_for
from workers.limits import core
from workers.limits.adapters import RedisWindows
from workers.limits.core import Decision, Scope
from workers.limits.service import Limiter, LimitsUnavailableError
from workers.middleware import RateLimited, Retries, standard_middleware

__all__ = ["queue", "quick_stop", "redis_broker"]

MakeBroker = Callable[..., Any]


class NoLedger:
    """These messages are of no task, and none may die."""

    def state(self, task_id: int) -> str | None:
        raise AssertionError(task_id)

    def complete(self, task_id: int, *, attempts: int) -> bool:
        raise AssertionError(task_id, attempts)

    def bury(self, letters: Any) -> None:
        raise AssertionError([*letters])


class Noted:
    """Real windows, with what they decided; away when told so."""

    def __init__(self, client: "redis.Redis") -> None:
        self.decisions: list[Decision] = []
        self.away = False
        self._windows = RedisWindows(client)

    def decide(self, scopes: Sequence[Scope]) -> Decision:
        if self.away:
            raise LimitsUnavailableError("Redis of the limits: away")
        self.decisions.append(self._windows.decide(scopes))
        return self.decisions[-1]


@pytest.fixture
def windows(stack: Stack) -> "Noted":
    # Its connections are closed with the process.
    return Noted(redis.Redis.from_url(stack.redis_url(4)))


@pytest.fixture
def middleware(windows: Noted) -> list[Any]:
    """What production uses; not a single retry is to be had."""
    limiter = Limiter(windows, without_redis="closed", telemetry=NoTelemetry())
    return standard_middleware(NoLedger(), NoTelemetry(), limiter=limiter, max_retries=0)


def scope(limit: int, seconds: float = 0.3, **options: Any) -> Scope:
    return Scope("test", uuid.uuid4().hex, limit, seconds, **options)


def test_work_waits_while_redis_is_away_where_the_limit_is_closed(
    redis_broker: MakeBroker, queue: str, middleware: list[Any], windows: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "AWAY_SECONDS", 0.05)
    broker, done = redis_broker(middleware), threading.Event()
    actor(broker, "work", queue, lambda **_: done.set(), rate_limits=(scope(1),))
    windows.away = True
    with working(broker):
        broker.enqueue(message(queue, "work", n=0))
        wait_for(lambda: broker.depths()[queue].delayed == 1)
        assert not done.is_set()
        windows.away = False
        assert done.wait(10)


def test_work_goes_on_while_redis_is_away_where_the_limit_is_open(
    redis_broker: MakeBroker, queue: str, middleware: list[Any], windows: Noted
) -> None:
    broker, done = redis_broker(middleware), [0]
    actor(broker, "work", queue, lambda *, n: done.append(n), rate_limits=(scope(1, without_redis="open"),))
    windows.away = True
    broker.enqueue_many(message(queue, "work", n=n) for n in range(3))
    drain(broker)
    assert len(done) == 4


def test_what_is_not_going_to_run_is_not_counted(redis_broker: MakeBroker, queue: str, windows: Noted) -> None:
    class Done(NoLedger):
        def state(self, task_id: int) -> str | None:
            return "done" if task_id else None

    limiter = Limiter(windows, without_redis="closed", telemetry=NoTelemetry())
    broker = redis_broker(standard_middleware(Done(), NoTelemetry(), limiter=limiter))
    actor(broker, "work", queue, lambda **_: None, rate_limits=(scope(1),))
    broker.enqueue_many(message(queue, "work", task_id=n + 1) for n in range(3))
    drain(broker)
    assert windows.decisions == []


def test_it_is_put_off_for_as_long_as_it_is_told_and_a_little_more(
    redis_broker: MakeBroker, queue: str, windows: Noted
) -> None:
    limited, retries = RateLimited(Limiter(windows, without_redis="open", telemetry=NoTelemetry())), Retries()
    broker = redis_broker([limited, retries])
    one = scope(1, seconds=10.0)
    actor(broker, "work", queue, lambda **_: None, rate_limits=(scope(9), one))
    limited.before_process_message(broker, message(queue, "work"))
    given = message(queue, "work")
    for refusals in range(1, 4):
        put_off = QueuedMessage(given)
        with pytest.raises(Exception, match="rate limit test"):
            limited.before_process_message(broker, put_off)
        retries.after_skip_message(broker, put_off)
        assert put_off.again is not None
        given, delay = put_off.again
        told = windows.decisions[-1].retry_after * 1_000
        assert 9_000 < told <= delay <= told + refusals * 1_000 + 1
        assert given.options == {"retries": 0, "refusals": refusals}
