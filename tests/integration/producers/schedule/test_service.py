"""Work that comes with the clock."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from producers.schedule.service import Job, Scheduler
from tests.waiting import wait_for


@contextmanager
def running(scheduler: Scheduler) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=scheduler.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


class Sent:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_a_job_is_sent_at_once_and_then_at_its_interval(captured: str) -> None:
    often, seldom = Sent(), Sent()
    with running(Scheduler(captured, [Job("often", 0.05, often), Job("seldom", 3600, seldom)])):
        wait_for(lambda: often.count >= 4)
    assert seldom.count == 1


def test_one_of_two_leads_and_the_other_takes_over(captured: str) -> None:
    first, second = Sent(), Sent()
    with running(Scheduler(captured, [Job("job", 0.05, first)])):
        wait_for(lambda: first.count >= 1)
        with running(Scheduler(captured, [Job("job", 0.05, second)])), psycopg.connect(captured) as admin:
            before = first.count
            wait_for(lambda: first.count >= before + 5)
            assert second.count == 0
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 5 AND granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            # Either may be quicker to lead; who lost its connection comes back by itself.
            both = first.count + second.count
            wait_for(lambda: first.count + second.count >= both + 3)


def test_queues_that_are_away_do_not_end_it(captured: str) -> None:
    tries = Sent()

    def refuse() -> None:
        tries()
        raise ConnectionError("away")

    with running(Scheduler(captured, [Job("job", 0.05, refuse)])):
        wait_for(lambda: tries.count >= 3)
