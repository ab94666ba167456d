"""Where the servers are, and connections to them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import psycopg
import structlog

from events.telemetry import NoTelemetry, Telemetry
from ops.settings import RedisRole, Settings
from ops.urls import database_name

if TYPE_CHECKING:
    import redis
    from psycopg_pool import ConnectionPool

    from ops.stack import Stack

log = structlog.get_logger(__name__)

Connection = psycopg.Connection[Any]


class Servers:
    """The parts of one process. `servers` are the embedded ones, if it uses any."""

    def __init__(
        self, settings: Settings, servers: "Stack | None", closing: ExitStack, telemetry: Telemetry | None = None
    ) -> None:
        self.settings = settings
        self.servers = servers
        self.telemetry = telemetry or NoTelemetry()
        self._closing = closing
        self._clients: dict[RedisRole, redis.Redis] = {}
        self._open_circuits: set[str] = set()

    @cached_property
    def database_url(self) -> str:
        if self.settings.database_url is not None:
            return self.settings.database_url.get_secret_value()
        assert self.servers is not None
        return self.servers.database_url()

    def redis_url(self, role: RedisRole) -> str:
        configured = self.settings.redis_url(role)
        if configured is not None:
            return configured
        assert self.servers is not None
        return self.servers.redis_url(role)

    @property
    def source(self) -> str:
        """CloudEvents source: names the database, the same from every process that works on it."""
        return self.settings.event_source or f"/databases/{database_name(self.database_url)}"

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of its own, for one command; autocommit."""
        with psycopg.connect(
            self.database_url, autocommit=True, connect_timeout=10, application_name="mbevents"
        ) as connection:
            yield connection

    @cached_property
    def pool(self) -> "ConnectionPool[Connection]":
        from workers.middleware import make_pool

        pool = make_pool(self.database_url)
        self._closing.callback(pool.close)
        return pool

    def connect(self) -> AbstractContextManager[Connection]:
        """An autocommitting connection of the pool for the length of a block."""
        return self.pool.connection()

    def client(self, role: RedisRole) -> "redis.Redis":
        """For commands that may be repeated: one pool a role and process, behind a circuit breaker."""
        from events.breaker import Breaker
        from events.connections import open_client

        if role not in self._clients:
            # Closed as soon as the server is back; a caller tries only where nobody could be made to look for it.
            breaker = Breaker(f"redis {role.name.lower()}", open_seconds=60, on_change=self._note_circuit)
            client = self._clients[role] = open_client(self.redis_url(role), breaker)
            self._closing.callback(client.close)
        return self._clients[role]

    def _note_circuit(self, name: str, state: str) -> None:
        self.telemetry.gauge("mbevents_circuit_open", state != "closed", circuit=name)
        if state == "closed":
            self._open_circuits.discard(name)
        elif name not in self._open_circuits:
            # Not each vain trial while it is open.
            self._open_circuits.add(name)
            self.telemetry.count("mbevents_circuit_openings_total", circuit=name)
        if state != "half_open":
            log.warning("circuit_changed", circuit=name, state=state)

    @cached_property
    def channels(self) -> "redis.Redis":
        """For publishing and listening, which must not be repeated by itself."""
        from events.queues.broker import connect_redis

        client = connect_redis(self.redis_url(RedisRole.PUBSUB))
        self._closing.callback(client.close)
        return client
