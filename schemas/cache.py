"""The entity cache. Subject: `<entity type>/<MBID>`."""

from pydantic import Field

from schemas.values import EntityType, Mbid, Payload


class CacheInvalidated(Payload):
    """Entries of an entity are gone from the cache: whoever keeps a copy should drop it."""

    entity_type: EntityType
    mbid: Mbid
    keys: int = Field(ge=0, description="How many keys were there and are gone.")
    cause: str | None = Field(description="The id of the event that it was for; null when a person asked for it.")
