"""Brokers: each test of the conformance suite runs on Redis and on RabbitMQ."""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pika
import pytest
from psycopg_pool import ConnectionPool

from events.queues import worker
from events.queues.broker import RedisQueues
from events.queues.rabbitmq import RabbitQueues
from events.telemetry import NoTelemetry
from ops.stack import Stack
from tests.integration.events.queues import rabbitmq_server
from tests.integration.events.queues.support import install_tables
from workers.middleware import Ledgered, PostgresLedger, Retries, make_pool, standard_middleware

MakeBroker = Callable[..., Any]


@pytest.fixture(autouse=True)
def quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dramatiq's threads look up once in this time, when they are to end."""
    monkeypatch.setattr(worker, "WORKER_TIMEOUT_MS", 100)


@pytest.fixture
def ledger_url(clone: Callable[[str], str]) -> str:
    """A fresh database with our tables only."""
    url = clone("template1")
    install_tables(url)
    return url


@pytest.fixture
def pool(ledger_url: str) -> "Iterator[ConnectionPool[Any]]":
    with make_pool(ledger_url) as made:
        yield made


@pytest.fixture
def middleware(pool: "ConnectionPool[Any]") -> list[Any]:
    """What production uses, with retries at once."""
    standard = standard_middleware(PostgresLedger(pool.connection), NoTelemetry(), max_retries=2)
    assert isinstance(standard[-1], Retries)
    assert any(isinstance(each, Ledgered) for each in standard)
    return [*standard[:-1], Retries(max_retries=2, min_backoff=20, max_backoff=40)]


@pytest.fixture
def queue() -> str:
    """A queue that no other test uses."""
    return f"q{uuid.uuid4().hex[:8]}"


@pytest.fixture
def redis_broker(redis_server: Stack) -> Iterator[MakeBroker]:
    """Makes brokers on one empty Redis."""
    made: list[RedisQueues] = []

    def make(middleware: Sequence[Any] = (), **options: Any) -> RedisQueues:
        made.append(RedisQueues(redis_server.redis_url(6), middleware=middleware, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """AMQP_TEST_URL, or a private server for this run."""
    if url := os.environ.get("AMQP_TEST_URL"):
        yield url
        return
    server = rabbitmq_server.find()
    if server is None:
        missing = "RabbitMQ is not there: install Debian's rabbitmq-server (it need not run), or set AMQP_TEST_URL."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with tempfile.TemporaryDirectory(prefix="mbe-rmq-") as home, rabbitmq_server.running(server, Path(home)) as url:
        yield url


@pytest.fixture
def rabbitmq_broker(rabbitmq_url: str, queue: str) -> Iterator[MakeBroker]:
    """Makes brokers on one RabbitMQ, for one queue."""
    made: list[RabbitQueues] = []

    def make(middleware: Sequence[Any] = (), **options: Any) -> RabbitQueues:
        made.append(RabbitQueues(rabbitmq_url, middleware=middleware, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        channel = connection.channel()
        for name in (queue, f"{queue}.DQ", f"{queue}.XQ"):
            channel.queue_delete(name)


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def make_broker(request: pytest.FixtureRequest) -> MakeBroker:
    """Makes brokers of one kind that see the same queues."""
    made: MakeBroker = request.getfixturevalue(f"{request.param}_broker")
    return made
