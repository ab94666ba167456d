"""The caches, and what makes them forget."""

from functools import cached_property
from typing import TYPE_CHECKING

from ops.settings import RedisRole
from ops.wiring.servers import Servers

if TYPE_CHECKING:
    from workers.caches.service import EntityCache, Invalidator, Load


class Caches(Servers):
    """What readers of the caches and the actor that invalidates them need."""

    @cached_property
    def entity_cache(self) -> "EntityCache":
        from workers.caches.adapters import RedisEntries
        from workers.caches.service import EntityCache

        return EntityCache(
            RedisEntries(self.client(RedisRole.ENTITIES), namespace=self.settings.redis_namespace),
            ttl=self.settings.entity_cache_seconds,
            telemetry=self.telemetry,
        )

    @cached_property
    def invalidator(self) -> "Invalidator":
        from workers.caches.adapters import (
            PostgresDependants,
            RedisAnnouncements,
            RedisEntries,
            RedisMusicBrainz,
        )
        from workers.caches.service import Invalidator

        namespace = self.settings.redis_namespace
        entities, sessions = self.client(RedisRole.ENTITIES), self.client(RedisRole.SESSIONS)
        return Invalidator(
            entries=RedisEntries(entities, namespace=namespace),
            dependants=PostgresDependants(self.connect),
            announcements=RedisAnnouncements(self.client(RedisRole.PUBSUB), namespace=namespace),
            musicbrainz=RedisMusicBrainz(store=sessions, cache=entities, namespace=namespace),
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

        return PostgresEntities(self.connect).load
