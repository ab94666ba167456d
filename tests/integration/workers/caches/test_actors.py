"""The actor on a broker."""

import subprocess
import sys
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from events.catalogue import INVALIDATE_CACHES
from tests.unit.workers.caches.making import change, changed, mbid
from workers.caches.actors import register
from workers.leased.service import StoreUnavailableError
from workers.nonsense import InvalidEventsError


class Idempotent(dramatiq.Middleware):  # type: ignore[misc]
    """Knows the option that the ledger's middleware reads."""

    actor_options = frozenset({"idempotent"})


class Service:
    """Fails with each of `errors` in turn, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.done: list[list[Any]] = []
        self.tries = 0

    def invalidate(self, events: list[Any]) -> None:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        self.done.append(events)


def run(service: Service, events: Any) -> StubBroker:
    broker = StubBroker(middleware=[Idempotent(), dramatiq.middleware.Retries(min_backoff=1, max_backoff=1)])
    register(broker, service)
    broker.enqueue(
        dramatiq.Message(
            queue_name=INVALIDATE_CACHES.queue,
            actor_name=INVALIDATE_CACHES.name,
            args=(),
            kwargs={"version": 1, "events": events},
            options={},
        )
    )
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    try:
        broker.join(INVALIDATE_CACHES.queue, fail_fast=False, timeout=10_000)
    finally:
        worker.stop()
    return broker


def test_it_has_the_name_and_the_queue_of_the_catalogue_and_hands_on_the_events() -> None:
    service, events = Service(), [changed("artist", 7, mbid(), change("artist", "name"))]
    run(service, events)
    assert service.done == [events]


def test_while_redis_is_away_it_is_tried_again() -> None:
    service = Service(StoreUnavailableError("away"), StoreUnavailableError("away"))
    run(service, [])
    assert (service.tries, service.done) == (3, [[]])


def test_what_makes_no_sense_is_tried_once() -> None:
    service = Service(InvalidEventsError("nonsense"))
    broker = run(service, [])
    assert service.tries == 1
    assert len(broker.dead_letters) == 1


@pytest.mark.parametrize("events", [None, {}, "events", 5])
def test_events_that_are_no_list_are_a_dead_letter(events: Any) -> None:
    service = Service()
    assert len(run(service, events).dead_letters) == 1
    assert service.tries == 0


def test_importing_declares_nothing() -> None:
    program = (
        "import dramatiq.broker, workers.caches.actors, workers.caches.adapters; "
        "assert dramatiq.broker.global_broker is None"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
