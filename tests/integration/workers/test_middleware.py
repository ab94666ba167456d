"""What happens around every actor, with a real ledger and a real queue."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import pytest
import structlog
from psycopg_pool import ConnectionPool

from events.ledger import service
from events.ledger.messages import task_message
from events.ledger.service import NewTask
from events.queues.broker import RedisQueues
from tests.integration.events.queues.conftest import ledger_url, pool, quick_stop, redis_broker
from tests.integration.events.queues.support import actor, drain, eventually, message, working
from workers.middleware import (
    BoundIds,
    Ledgered,
    Measured,
    PostgresLedger,
    Retries,
    Versions,
    make_pool,
    standard_middleware,
)

__all__ = ["ledger_url", "pool", "quick_stop", "redis_broker"]

MakeBroker = Callable[..., RedisQueues]
Row = Callable[[], tuple[str, int, str | None]]


class Counted:
    """Telemetry that remembers."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], float] = {}
        self.seconds: dict[str, list[float]] = {}

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        key = (name, labels.get("outcome", ""))
        self.counts[key] = self.counts.get(key, 0) + value

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        assert labels == {"queue": "q", "actor": "work"}
        self.seconds.setdefault(name, []).append(value)


class Away:
    """Postgres's answers, and none while it is `away`."""

    def __init__(self, pool: "ConnectionPool[Any]") -> None:
        self._pool = pool
        self.away = False

    def connection(self) -> "AbstractContextManager[psycopg.Connection[Any]]":
        if self.away:
            raise psycopg.OperationalError("the server is away: detail about a row")
        return self._pool.connection()


@pytest.fixture
def telemetry() -> Counted:
    return Counted()


@pytest.fixture
def postgres(pool: "ConnectionPool[Any]") -> Away:
    return Away(pool)


@pytest.fixture
def broker(redis_broker: MakeBroker, postgres: Away, telemetry: Counted) -> RedisQueues:
    *others, _ = standard_middleware(PostgresLedger(postgres.connection), telemetry)
    return redis_broker([*others, Retries(max_retries=2, min_backoff=20, max_backoff=40)])


@pytest.fixture
def task(pool: "ConnectionPool[Any]") -> int:
    with pool.connection() as connection:
        return service.add(connection, [NewTask("work", "q", [1])])[0]


@pytest.fixture
def row(ledger_url: str, task: int) -> Iterator[Row]:
    """State, attempts and error of the task."""
    with psycopg.connect(ledger_url, autocommit=True, application_name="looking") as connection:

        def read() -> tuple[str, int, str | None]:
            found = connection.execute("SELECT state, attempts, error FROM mbevents.task WHERE id = %s", (task,))
            state, attempts, error = found.fetchall()[0]
            return state, attempts, error

        yield read


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as entries:
        yield entries


def work_on(task: int) -> Any:
    return task_message(task, queue="q", actor="work", events=[{"id": "a"}])


def test_the_order_is_the_one_in_which_they_rely_on_each_other() -> None:
    kinds = [type(each) for each in standard_middleware(PostgresLedger(Away.connection), Counted())]  # type: ignore[arg-type]
    assert kinds == [BoundIds, Measured, Ledgered, Versions, Retries]


def test_ledgered_work_is_done_once(broker: RedisQueues, task: int, row: Row, telemetry: Counted) -> None:
    runs: list[Any] = []
    actor(broker, "work", "q", lambda **kwargs: runs.append(kwargs))
    broker.enqueue(work_on(task))
    drain(broker)
    broker.enqueue(work_on(task))
    drain(broker)
    assert runs == [{"version": 1, "events": [{"id": "a"}]}]
    assert row() == ("done", 1, None)
    assert telemetry.counts == {("mbevents_jobs_total", "done"): 1, ("mbevents_jobs_total", "skipped"): 1}
    assert len(telemetry.seconds["mbevents_job_seconds"]) == 1
    assert all(0 <= each < 5 for each in telemetry.seconds["mbevents_job_wait_seconds"])


def test_what_is_idempotent_does_not_ask_whether_it_is_done(
    broker: RedisQueues, postgres: Away, task: int, row: Row
) -> None:
    runs: list[int] = []

    def work(**_: Any) -> None:
        runs.append(1)
        postgres.away = False

    actor(broker, "work", "q", work, idempotent=True)
    postgres.away = True
    broker.enqueue(work_on(task))
    drain(broker)
    assert (runs, row()) == ([1], ("done", 1, None))


def test_work_that_was_discarded_is_skipped(broker: RedisQueues, pool: "ConnectionPool[Any]", task: int) -> None:
    runs: list[int] = []
    actor(broker, "work", "q", lambda **_: runs.append(1))
    broker.enqueue(work_on(task))
    with pool.connection() as connection:
        connection.execute("DELETE FROM mbevents.task")
    drain(broker)
    assert runs == []


def test_the_ledger_tells_how_often_it_was_tried(broker: RedisQueues, task: int, row: Row, telemetry: Counted) -> None:
    runs: list[int] = []

    def work(**_: Any) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("not yet")

    actor(broker, "work", "q", work)
    with working(broker):
        broker.enqueue(work_on(task))
        eventually(lambda: row()[0] == "done")
    assert row() == ("done", 2, None)
    assert telemetry.counts == {("mbevents_jobs_total", "retried"): 1, ("mbevents_jobs_total", "done"): 1}


def test_work_that_always_fails_is_dead_in_the_ledger_and_has_a_letter(
    broker: RedisQueues,
    task: int,
    row: Row,
    pool: "ConnectionPool[Any]",
    telemetry: Counted,
) -> None:
    def work(**_: Any) -> None:
        raise ValueError("always")

    actor(broker, "work", "q", work)
    with working(broker):
        broker.enqueue(work_on(task))
        eventually(lambda: row()[0] == "dead")
        eventually(lambda: broker.depths()["q"].in_progress == 0)
    state, attempts, error = row()
    assert (state, attempts) == ("dead", 3)
    assert str(error).startswith("ValueError: always")
    with pool.connection() as connection:
        letters = connection.execute("SELECT task_id, attempts, delivery_id FROM mbevents.dead_letter").fetchall()
    assert letters == [(task, 3, str(task))]
    assert telemetry.counts == {("mbevents_jobs_total", "retried"): 2, ("mbevents_jobs_total", "dead"): 1}


def test_work_waits_while_the_ledger_does_not_answer(
    broker: RedisQueues, postgres: Away, task: int, row: Row, logged: list[Any]
) -> None:
    runs: list[int] = []
    actor(broker, "work", "q", lambda **_: runs.append(1))
    postgres.away = True
    with working(broker):
        broker.enqueue(work_on(task))
        eventually(lambda: sum(each["event"] == "message_retried" for each in logged) >= 4)
        assert runs == []
        postgres.away = False
        eventually(lambda: row()[0] == "done")
    # However long it waited, it was tried once.
    assert row() == ("done", 1, None)
    assert "detail about a row" not in str(logged)


def test_work_that_could_not_be_marked_as_done_is_told(
    broker: RedisQueues, postgres: Away, task: int, row: Row, logged: list[Any]
) -> None:
    def work(**_: Any) -> None:
        postgres.away = True

    actor(broker, "work", "q", work)
    with working(broker):
        broker.enqueue(work_on(task))
        eventually(lambda: any(each["event"] == "task_not_marked_done" for each in logged))
    # Its message is gone and the ledger says so: the requeuer makes another.
    assert row()[0] == "queued"
    assert broker.has_messages("q", [task]) == [False]


def test_a_connection_that_the_server_closed_is_replaced(
    broker: RedisQueues, pool: "ConnectionPool[Any]", task: int, row: Row, ledger_url: str
) -> None:
    runs: list[int] = []
    actor(broker, "work", "q", lambda **_: runs.append(1))
    with pool.connection() as connection:
        connection.execute("SELECT 1")
    with psycopg.connect(ledger_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'mbevents worker'"
        )
    with working(broker):
        broker.enqueue(work_on(task))
        eventually(lambda: row()[0] == "done")
    assert runs == [1]


def test_ids_are_bound_to_what_an_actor_logs_and_to_nothing_after_it(
    broker: RedisQueues, task: int, logged: list[Any]
) -> None:
    log = structlog.get_logger()
    actor(broker, "work", "q", lambda **_: log.info("worked"))
    broker.enqueue_many([work_on(task), message("q", "work")])
    drain(broker, threads=1)
    ledgered, other = (each for each in logged if each["event"] == "worked")
    assert (ledgered["task_id"], ledgered["actor"], ledgered["queue"]) == (task, "work", "q")
    assert "task_id" not in other
    assert ledgered["message_id"] != other["message_id"]


def test_an_actor_that_ends_its_thread_is_one_that_failed(broker: RedisQueues, task: int, row: Row) -> None:
    def work(**_: Any) -> None:
        raise SystemExit(3)

    actor(broker, "work", "q", work)
    with working(broker):
        broker.enqueue(work_on(task))
        eventually(lambda: row()[0] == "dead")
    assert "SystemExit: 3" in str(row()[2])


def test_suspects_run_one_at_a_time_beside_what_is_above_suspicion(redis_broker: MakeBroker) -> None:
    killed, broker = redis_broker(), redis_broker()
    running: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def work(*, n: int) -> None:
        with lock:
            running.append(n)
            most.append(sum(each < 4 for each in running))
        threading.Event().wait(0.03)
        with lock:
            running.remove(n)

    actor(broker, "work", "q", work)
    broker.enqueue_many(message("q", "work", task_id=n + 1, n=n) for n in range(4))
    for _ in range(2):
        for key, _, _ in killed.fetch("q", 4):
            killed.mark_started("q", key.decode())
        killed.client.zadd(killed.keys.heartbeats, {killed.broker_id: 1})
        broker.reap(max_redeliveries=3)
    broker.enqueue_many(message("q", "work", n=n) for n in range(4, 30))
    drain(broker, threads=8)
    assert max(most) == 1
    assert len(most) == 30
    # Done, they are forgotten.
    assert broker.client.keys("*deaths*") == []
    assert broker.client.keys("*started*") == []


def test_connections_find_out_soon_that_their_server_is_gone_unless_the_url_says_when(ledger_url: str) -> None:
    url = f"{ledger_url}{'&' if '?' in ledger_url else '?'}keepalives_idle=77"
    with make_pool(url, statement_seconds=2) as made, made.connection() as connection:
        told = connection.info.get_parameters()
        assert (told["keepalives_idle"], told["keepalives_interval"], told["tcp_user_timeout"]) == ("77", "5", "25000")
        assert connection.execute("SHOW statement_timeout").fetchone() == ("2s",)
