"""The ledger: work that must be done, as rows."""

from typing import Any

import psycopg
import pytest

from events.ledger import service
from events.ledger.service import NewTask


@pytest.fixture
def connection(ledger_url: str) -> Any:
    with psycopg.connect(ledger_url, autocommit=True) as made:
        yield made


def tasks(count: int) -> list[NewTask]:
    return [NewTask(actor="work", queue=f"q{n % 2}", positions=[n, n + 1]) for n in range(count)]


def age(connection: "psycopg.Connection[Any]", seconds: float, *ids: int) -> None:
    connection.execute(
        "UPDATE mbevents.task SET enqueued_at = enqueued_at - %s * interval '1 second' WHERE id = ANY (%s)",
        (seconds, list(ids)),
    )


def test_tasks_get_rising_ids_in_the_order_given(connection: "psycopg.Connection[Any]") -> None:
    ids = service.add(connection, tasks(1_000))
    assert ids == sorted(ids)
    assert len(set(ids)) == 1_000
    rows = connection.execute("SELECT positions[1] FROM mbevents.task ORDER BY id").fetchall()
    assert [row[0] for row in rows] == list(range(1_000))
    assert service.add(connection, []) == []


def test_positions_of_different_lengths_are_kept(connection: "psycopg.Connection[Any]") -> None:
    service.add(connection, [NewTask("a", "q", [1]), NewTask("a", "q", [2**62, 3, 4]), NewTask("a", "q", [])])
    rows = connection.execute("SELECT positions FROM mbevents.task ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [[1], [2**62, 3, 4], []]


def test_tasks_of_a_transaction_that_rolls_back_are_not_there(connection: "psycopg.Connection[Any]") -> None:
    with connection.transaction(force_rollback=True):
        service.add(connection, tasks(3))
    assert service.counts(connection) == {"queued": 0, "done": 0, "dead": 0}


def test_work_is_done_once(connection: "psycopg.Connection[Any]") -> None:
    (task,) = service.add(connection, tasks(1))
    assert service.state(connection, task) == "queued"
    assert service.complete(connection, task, attempts=2) is True
    assert service.complete(connection, task) is False
    assert service.state(connection, task) == "done"
    assert service.fail(connection, task, "late") is False
    assert service.state(connection, task) == "done"
    assert service.complete(connection, task + 1) is False
    assert service.state(connection, task + 1) is None


def test_dead_work_can_still_be_done(connection: "psycopg.Connection[Any]") -> None:
    (task,) = service.add(connection, tasks(1))
    assert service.fail(connection, task, "no", attempts=3) is True
    assert service.fail(connection, task, "again") is False
    assert service.counts(connection)["dead"] == 1
    assert service.complete(connection, task) is True


def test_overdue_work_is_told_oldest_first_page_by_page(connection: "psycopg.Connection[Any]") -> None:
    ids = service.add(connection, tasks(5))
    for n, task in enumerate(ids):
        age(connection, 10 + n, task)
    service.complete(connection, ids[0])
    service.fail(connection, ids[1], "no")
    first = service.overdue(connection, 5, 2)
    assert [task.id for task in first] == [ids[4], ids[3]]
    after = (first[-1].enqueued_at, first[-1].id)
    assert [task.id for task in service.overdue(connection, 5, 2, after=after)] == [ids[2]]
    assert service.overdue(connection, 60, 2) == []


def test_work_enqueued_again_is_overdue_later_each_time_for_a_broker_that_cannot_be_asked(
    connection: "psycopg.Connection[Any]",
) -> None:
    (task,) = service.add(connection, tasks(1))
    age(connection, 70, task)
    assert [each.id for each in service.overdue_by_age(connection, 60, 10)] == [task]
    service.enqueued(connection, [task])
    assert service.overdue_by_age(connection, 60, 10) == []
    age(connection, 70, task)
    assert service.overdue_by_age(connection, 60, 10) == []
    age(connection, 70, task)
    assert [each.enqueues for each in service.overdue_by_age(connection, 60, 10)] == [2]


def test_what_is_done_for_long_is_purged_and_nothing_else(connection: "psycopg.Connection[Any]") -> None:
    old, new, dead, queued = service.add(connection, tasks(4))
    for task in (old, new):
        service.complete(connection, task)
    service.fail(connection, dead, "no")
    connection.execute("UPDATE mbevents.task SET done_at = done_at - interval '1 day' WHERE id = %s", (old,))
    assert service.purge(connection, 3_600) == 1
    assert [service.state(connection, task) for task in (old, new, dead, queued)] == [None, "done", "dead", "queued"]
