"""Dead letters in Postgres: the store's promises, and what happens to the ledgered work behind them."""

from collections.abc import Iterable
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from events.ledger import service
from events.ledger.service import NewTask
from events.queues.adapters import PostgresDeadLetters
from events.queues.dead_letters import DeadLetters
from events.queues.letters import Filter, NewDeadLetter
from tests.unit.events.queues.store_suite import StoreSuite, letter


class TestPostgresStore(StoreSuite):
    @pytest.fixture(autouse=True)
    def connected(self, pool: "ConnectionPool[Any]") -> None:
        self.pool = pool

    def store(self, letters: Iterable[NewDeadLetter]) -> PostgresDeadLetters:
        store = PostgresDeadLetters(self.pool.connection)
        store.bury(letters)
        return store


@pytest.fixture
def store(pool: "ConnectionPool[Any]") -> PostgresDeadLetters:
    return PostgresDeadLetters(pool.connection)


@pytest.fixture
def task(pool: "ConnectionPool[Any]") -> int:
    with pool.connection() as connection:
        return service.add(connection, [NewTask("work", "caches", [1])])[0]


def state(pool: "ConnectionPool[Any]", task: int) -> str | None:
    with pool.connection() as connection:
        return service.state(connection, task)


def test_the_same_death_told_twice_is_one_letter(store: PostgresDeadLetters) -> None:
    store.bury([letter(1), letter(1)])
    store.bury([letter(1)])
    assert store.count(Filter()) == 1


def test_the_work_behind_a_letter_is_dead_until_it_is_retried(
    store: PostgresDeadLetters, pool: "ConnectionPool[Any]", task: int
) -> None:
    store.bury([letter(1, task_id=task)])
    assert state(pool, task) == "dead"
    states: list[str | None] = []
    DeadLetters(store, lambda messages: states.extend(state(pool, task) for _ in messages)).retry(Filter())
    # A worker may be quicker than our commit: the work must not look done to it.
    assert states == ["dead"]
    assert state(pool, task) == "queued"


def test_the_work_behind_a_discarded_letter_is_gone(
    store: PostgresDeadLetters, pool: "ConnectionPool[Any]", task: int
) -> None:
    store.bury([letter(1, task_id=task)])
    DeadLetters(store, lambda _: None).discard(Filter())
    assert state(pool, task) is None


def test_work_that_was_done_stays_done_when_a_late_copy_of_its_message_dies(
    store: PostgresDeadLetters, pool: "ConnectionPool[Any]", task: int
) -> None:
    with pool.connection() as connection:
        service.complete(connection, task)
    store.bury([letter(1, task_id=task)])
    assert state(pool, task) == "done"
    DeadLetters(store, lambda _: None).discard(Filter())
    assert state(pool, task) == "done"


def test_what_postgres_refuses_as_json_is_kept_as_bytes_and_keeps_no_other_out(store: PostgresDeadLetters) -> None:
    nested = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    odd = NewDeadLetter(delivery_id="odd", queue="q", error="no", message=nested)
    store.bury([letter(1), odd, letter(2)])
    kept = [store.show(each.id) for each in store.page(Filter(), limit=9, below=None)]
    assert {each.message_id for each in kept if each} == {"m1", None, "m2"}
    assert [each.raw for each in kept if each and each.message is None] == [nested]


def test_two_people_who_retry_at_once_send_each_letter_once(store: PostgresDeadLetters) -> None:
    store.bury(map(letter, range(10)))
    sent: list[str] = []
    other = DeadLetters(store, lambda messages: sent.extend(each.message_id for each in messages))

    def send(messages: Iterable[Any]) -> None:
        if not sent:
            other.retry(Filter())
        sent.extend(each.message_id for each in messages)

    mine = DeadLetters(store, send)
    mine.retry(Filter(ids=[each.id for each in store.page(Filter(), limit=3, below=None)]))
    assert sorted(sent) == sorted(f"m{n}" for n in range(10))
    assert store.count(Filter()) == 0
