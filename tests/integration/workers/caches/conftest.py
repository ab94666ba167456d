"""The caches on real servers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.stack import Stack


class Clients:
    """A client for each role, as the wiring makes them."""

    def __init__(self, stack: Stack) -> None:
        self.entities, self.store, self.pubsub = (self._client(stack.redis_url(number)) for number in (0, 1, 5))

    def close(self) -> None:
        for client in (self.entities, self.store, self.pubsub):
            client.close()

    @staticmethod
    def _client(url: str) -> "redis.Redis":
        return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5)


@pytest.fixture
def clients(redis_server: Stack) -> Iterator[Clients]:
    made = Clients(redis_server)
    yield made
    made.close()


class Database:
    """One connection, and the statements that went over it."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self.statements: list[Any] = []
        self.connection = connection
        connection.cursor_factory = self._cursor()

    @contextmanager
    def connect(self) -> Iterator["psycopg.Connection[Any]"]:
        yield self.connection

    def value(self, query: Any, *parameters: Any) -> Any:
        row = self.connection.execute(query, parameters).fetchone()
        assert row is not None
        return row[0]

    def _cursor(self) -> "type[psycopg.Cursor[Any]]":
        statements = self.statements

        class Noting(psycopg.Cursor[Any]):
            def execute(self, query: Any, *args: Any, **kwargs: Any) -> "Noting":
                statements.append(query)
                super().execute(query, *args, **kwargs)
                return self

        return Noting


@pytest.fixture(scope="package")
def sample(stack: Stack) -> Iterator[str]:
    """One database for all tests here: each undoes what it did."""
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_caches TEMPLATE musicbrainz")
        connection.execute("ALTER DATABASE test_caches SET search_path = musicbrainz, public")
        yield stack.database_url("test_caches")
        connection.execute("DROP DATABASE test_caches (FORCE)")


@pytest.fixture
def musicbrainz(sample: str) -> Iterator[Database]:
    with psycopg.connect(sample, autocommit=True) as connection, connection.transaction(force_rollback=True):
        yield Database(connection)


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """How often something is sent to Redis, and so waited for."""

    def count(work: Callable[[], object]) -> int:
        sent: list[int] = []
        send: Any = redis.connection.AbstractConnection.send_packed_command

        def noting(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
            sent.append(1)
            return send(self, command, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(redis.connection.AbstractConnection, "send_packed_command", noting)
            work()
        return len(sent)

    return count
