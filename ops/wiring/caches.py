"""The caches, and what makes them forget."""

from functools import cached_property
from typing import TYPE_CHECKING

from ops.settings import RedisRole
from ops.wiring.servers import Servers

if TYPE_CHECKING:
    from workers.caches.service import EntityCache, Invalidator, Load
    from workers.leased.adapters import RedisLeased
    from workers.leased.service import ReadThrough

_PREFIXES = {RedisRole.ENTITIES: "entity", RedisRole.SEARCH: "search", RedisRole.STATISTICS: "statistics"}


class Caches(Servers):
    """What readers of the caches and the actor that invalidates them need."""

    def leased(self, role: RedisRole) -> "RedisLeased":
        """The leased entries of a role."""
        from workers.leased.adapters import RedisLeased

        if role not in self._leased:
            prefix = f"{self.settings.redis_namespace}:{_PREFIXES[role]}"
            self._leased[role] = RedisLeased.of(self.client(role), prefix)
        return self._leased[role]

    @cached_property
    def _leased(self) -> "dict[RedisRole, RedisLeased]":
        return {}

    @cached_property
    def entity_cache(self) -> "EntityCache":
        from workers.caches.service import EntityCache
        from workers.leased.service import ReadThrough, Times

        times = Times(ttl=self.settings.entity_cache_seconds)
        return EntityCache(ReadThrough(self.leased(RedisRole.ENTITIES), "entity", times, telemetry=self.telemetry))

    @cached_property
    def search_cache(self) -> "ReadThrough":
        """Pages and searches, tagged with what they depend on (`workers.caches.tags`)."""
        from workers.leased.service import ReadThrough, Times

        times = Times(ttl=self.settings.search_cache_seconds, patience=2)
        return ReadThrough(self.leased(RedisRole.SEARCH), "search", times, telemetry=self.telemetry)

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

        return PostgresEntities(self.connect).load
