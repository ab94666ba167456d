"""The caches, and what makes them forget."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import psycopg

from events.errors import UnreachableError
from ops.settings import RedisRole
from ops.wiring.servers import Connection, Servers

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from events.breaker import Breaker
    from workers.caches.search.service import Searches
    from workers.caches.service import EntityCache, Invalidator, Load
    from workers.leased.adapters import RedisLeased
    from workers.leased.service import ReadThrough

_PREFIXES = {RedisRole.ENTITIES: "entity", RedisRole.SEARCH: "search", RedisRole.STATISTICS: "statistics"}

# What readers wait for: longer, and a table that somebody has locked would keep all threads of the web waiting.
_READING_SECONDS = 5
# For a free connection: where loads are slow, whoever wants something that is cached needs the thread.
_CONNECTION_SECONDS = 2
# A load, with the wait for a connection.
_LONGEST_LOAD = 12


class Caches(Servers):
    """What readers of the caches and the actor that invalidates them need."""

    def leased(self, role: RedisRole) -> "RedisLeased":
        """The leased entries of a role."""
        from workers.caches.statistics.service import LEASE_SECONDS
        from workers.leased.adapters import RedisLeased

        if role not in self._leased:
            # Counting takes minutes, any other load a moment.
            seconds = LEASE_SECONDS if role is RedisRole.STATISTICS else 10
            self._leased[role] = RedisLeased(self.client(role), self.prefix(role), lease_seconds=seconds)
        return self._leased[role]

    def prefix(self, role: RedisRole) -> str:
        """Of the keys of a cache."""
        return f"{self.settings.redis_namespace}:{_PREFIXES[role]}"

    @cached_property
    def _leased(self) -> "dict[RedisRole, RedisLeased]":
        return {}

    @cached_property
    def entity_cache(self) -> "EntityCache":
        from workers.caches.service import EntityCache
        from workers.leased.service import ReadThrough, Times

        times = Times(ttl=self.settings.entity_cache_seconds, longest=_LONGEST_LOAD)
        return EntityCache(ReadThrough(self.leased(RedisRole.ENTITIES), "entity", times, telemetry=self.telemetry))

    @cached_property
    def search_cache(self) -> "ReadThrough":
        """Pages and searches, tagged with what they depend on (`workers.caches.tags`)."""
        from workers.leased.service import ReadThrough, Times

        times = Times(ttl=self.settings.search_cache_seconds, patience=2, longest=_LONGEST_LOAD)
        return ReadThrough(self.leased(RedisRole.SEARCH), "search", times, telemetry=self.telemetry)

    @cached_property
    def searches(self) -> "Searches":
        from workers.caches.search.adapters import PostgresNames
        from workers.caches.search.service import Searches

        return Searches(self.search_cache, PostgresNames(self.reading))

    @cached_property
    def invalidator(self) -> "Invalidator":
        from workers.caches.adapters import PostgresDependants, RedisAnnouncements, RedisMusicBrainz
        from workers.caches.service import Invalidator

        namespace = self.settings.redis_namespace
        entities, sessions = self.client(RedisRole.ENTITIES), self.client(RedisRole.SESSIONS)
        return Invalidator(
            entries=self.leased(RedisRole.ENTITIES),
            dependants=PostgresDependants(self.connect),
            announcements=RedisAnnouncements(self.client(RedisRole.PUBSUB), namespace=namespace),
            musicbrainz=RedisMusicBrainz(store=sessions, cache=entities, namespace=namespace),
            tagged=[self.leased(RedisRole.SEARCH), self.leased(RedisRole.STATISTICS)],
            fanout_limit=self.settings.cache_fanout_limit,
            telemetry=self.telemetry,
        )

    def check_entities(self) -> None:
        """Raises redis.ConnectionError when the entity cache is away, which to readers looks like a miss."""
        self.client(RedisRole.ENTITIES).ping()

    @cached_property
    def load_entity(self) -> "Load":
        """Reads an entity from the database, as `EntityCache.get_or_load` wants it."""
        from workers.caches.adapters import PostgresEntities

        return PostgresEntities(self.reading).load

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """As `connect`, for who answers readers: no statement takes longer than they wait, and a database that is away
        is not waited for again and again.

        Raises UnreachableError, psycopg.OperationalError.
        """
        if not self._database_circuit.allow():
            raise UnreachableError("The database did not answer a moment ago.")
        try:
            with self._readers.connection() as connection:
                yield connection
        except psycopg.OperationalError as error:
            # With a code it answered, unless it said that it goes away.
            if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
                self._database_circuit.failed()
            else:
                self._database_circuit.succeeded()
            raise
        else:
            self._database_circuit.succeeded()

    @cached_property
    def _readers(self) -> "ConnectionPool[Connection]":
        from workers.middleware import make_pool

        pool = make_pool(self.database_url, statement_seconds=_READING_SECONDS, patience=_CONNECTION_SECONDS)
        self._closing.callback(pool.close)
        return pool

    @cached_property
    def _database_circuit(self) -> "Breaker":
        from events.breaker import Breaker

        return Breaker("database", on_change=self._note_circuit)
