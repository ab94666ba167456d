"""Connections to Redis: one bounded pool a role, healthy when it is used, and behind a circuit breaker.

A role is what Redis is used for (caches, sessions, limits …). The queues' and the subscribers' connections are others:
they wait on purpose, and must not repeat a command.
"""

import re
from collections.abc import Callable
from queue import Empty
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.retry import Retry

from .breaker import Breaker

# As many as the seed says, of each process and role.
POOL_SIZE = 10
# For an answer, for a connection, and for a free one of the pool.
SECONDS = 2.0
HEALTH_CHECK_SECONDS = 30


_RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


class CircuitOpenError(redis.ConnectionError):
    """This Redis did not answer a moment ago: it is not asked."""


def open_client(url: str, breaker: Breaker, *, size: int = POOL_SIZE, seconds: float = SECONDS) -> "redis.Redis":
    """A client that answers or raises within `seconds` for each exchange, and at once while the breaker is open.

    Responses are bytes. After a broken connection a command is repeated once, so each of ours may run twice; after a
    timeout it is not, as who waited once has waited enough. Connects when it is used.
    """
    options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]  # so are all of redis-py's
    kind = _WATCHED[options.pop("connection_class", Connection)]
    if kind is not _WatchedUnix:
        options["socket_keepalive"] = True
    pool = _Pool(
        breaker,
        connection_class=kind,
        max_connections=size,
        timeout=seconds,
        breaker=breaker,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        health_check_interval=HEALTH_CHECK_SECONDS,
        # redis-py's own ten tries would turn a dead cache, which is a miss, into seconds.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        **options,
    )
    return redis.Redis.from_pool(pool)


class Greeted(Protocol):
    """A connection that was just made: what is sent over it goes before everything else."""

    def send_command(self, *args: Any) -> None: ...
    def read_response(self) -> Any: ...


Greeting = Callable[[Greeted, str], None]
"""Hears of a new connection, and the id of the server's run: another one after a restart, and on a replica."""


def greet(client: "redis.Redis", greeting: Greeting) -> None:
    """Have every connection of an `open_client` from now on greeted before it is used."""
    pool = client.connection_pool
    assert isinstance(pool, _Pool)
    pool.greetings.append(greeting)
    # Those that are there were not; in use, they are of somebody who did not ask for it.
    pool.disconnect(inuse_connections=False)


class _Pool(redis.BlockingConnectionPool):
    def __init__(self, guard: Breaker, **options: Any) -> None:
        self._guard = guard
        self.greetings: list[Greeting] = []
        super().__init__(redis_connect_func=self._connected, **options)  # type: ignore[no-untyped-call]

    def _connected(self, connection: Any) -> None:
        connection.on_connect()
        if self.greetings:
            connection.send_command("INFO", "server")
            run_id = _RUN_ID.search(connection.read_response())
            for greeting in self.greetings:
                greeting(connection, run_id[1].decode() if run_id else "")

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:  # noqa: ARG002
        if not self._guard.allow():
            raise CircuitOpenError(f"{self._guard.name} did not answer a moment ago")
        try:
            return super().get_connection()  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # That all connections are in use says nothing against the server, unless we are asking after it.
            if not isinstance(error.__context__, Empty) or self._guard.state == "half_open":
                self._guard.failed()
            raise


class _Watched(AbstractConnection):
    """Tells the breaker how each exchange went."""

    def __init__(self, *args: Any, breaker: Breaker, **options: Any) -> None:
        self._breaker = breaker
        super().__init__(*args, **options)

    def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().send_packed_command(*args, **kwargs)  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError):
            self._breaker.failed()
            raise

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            response = super().read_response(*args, **kwargs)
        except (redis.ConnectionError, redis.TimeoutError):
            self._breaker.failed()
            raise
        except redis.ReadOnlyError:
            # It was the master once: what it tells to readers may be old. The next connection looks its address up
            # again; that one is made says nothing for it.
            self.disconnect()  # type: ignore[no-untyped-call]
            self._breaker.failed(surely=True)
            raise
        except redis.ResponseError:
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return response


class _WatchedTcp(_Watched, Connection): ...


class _WatchedTls(_Watched, SSLConnection): ...


class _WatchedUnix(_Watched, UnixDomainSocketConnection): ...


_WATCHED: dict[Any, type[Any]] = {
    Connection: _WatchedTcp,
    SSLConnection: _WatchedTls,
    UnixDomainSocketConnection: _WatchedUnix,
}
