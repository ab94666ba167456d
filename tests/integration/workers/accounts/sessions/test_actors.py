"""The actor on a broker."""

from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from events.catalogue import END_SESSIONS
from tests.unit.workers.accounts.sessions.test_core import deleted
from workers.accounts.sessions.actors import register
from workers.accounts.sessions.service import SessionsUnavailableError
from workers.nonsense import InvalidEventsError


class Service:
    """Fails with each of `errors` in turn, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.done: list[list[Any]] = []
        self.tries = 0

    def end_barred(self, events: list[Any]) -> None:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        self.done.append(events)


def run(service: Service, events: Any) -> StubBroker:
    broker = StubBroker(middleware=[dramatiq.middleware.Retries(min_backoff=1, max_backoff=1)])
    register(broker, service)
    message = dramatiq.Message(
        queue_name=END_SESSIONS.queue,
        actor_name=END_SESSIONS.name,
        args=(),
        kwargs={"version": 1, "events": events},
        options={},
    )
    broker.enqueue(message)
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    try:
        broker.join(END_SESSIONS.queue, fail_fast=False, timeout=10_000)
    finally:
        worker.stop()
    return broker


def test_it_has_the_name_and_the_queue_of_the_catalogue_and_is_tried_again_while_redis_is_away() -> None:
    service = Service(SessionsUnavailableError("away"), SessionsUnavailableError("away"))
    run(service, [deleted(7)])
    assert (service.tries, len(service.done)) == (3, 1)


@pytest.mark.parametrize("events", [None, {}, "events"])
def test_events_that_are_no_list_are_a_dead_letter(events: Any) -> None:
    service = Service()
    assert len(run(service, events).dead_letters) == 1
    assert service.tries == 0


def test_what_makes_no_sense_is_tried_once() -> None:
    service = Service(InvalidEventsError("nonsense"))
    assert len(run(service, []).dead_letters) == 1
    assert service.tries == 1
