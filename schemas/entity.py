"""Events of the 13 core entities. Subject: `<entity type>/<MBID>`."""

from pydantic import Field

from schemas.values import EntityType, Mbid, Payload, RowsChanged


class _Entity(Payload):
    entity_type: EntityType
    id: int = Field(description="The row id, which only this database and its mirrors know.")
    mbid: Mbid
    changes: tuple[RowsChanged, ...] = Field(description="What one transaction changed of it, sorted by table.")


class EntityCreated(_Entity):
    """An entity came into being."""


class EntityUpdated(_Entity):
    """An entity changed: its own row or what hangs off it (aliases, tracks, relationships, tags …)."""

    previous_mbid: Mbid | None = Field(default=None, description="The MBID that it had before, if that was changed.")


class EntityDeleted(Payload):
    """An MBID leads nowhere any more."""

    entity_type: EntityType
    id: int | None = Field(description="The row id; null if the MBID was only a redirect.")
    mbid: Mbid
    changes: tuple[RowsChanged, ...]


class EntityMerged(Payload):
    """An MBID leads to another entity now. Subject: the old MBID. A survivor that changed has an event of its own."""

    entity_type: EntityType
    id: int | None = Field(description="The old row id; null if the old MBID already was a redirect to something else.")
    mbid: Mbid
    into_id: int
    into_mbid: Mbid
    changes: tuple[RowsChanged, ...]
