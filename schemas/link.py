"""Links from entities to URLs (Wikidata, Wikipedia, Commons …). Subject: `<entity type>/<MBID>` of the entity."""

from pydantic import Field

from schemas.values import EntityType, Mbid, Payload


class _Link(Payload):
    entity_type: EntityType
    id: int
    mbid: Mbid
    table: str = Field(description="The table of the relationship.", examples=["musicbrainz.l_artist_url"])
    relationship_id: int = Field(description="The row id in that table.")
    link_id: int = Field(description="The link: its type, dates and attributes.")
    url_id: int
    url_mbid: Mbid
    url: str


class LinkAdded(_Link):
    """An entity was linked to a URL. A relationship that moved is removed first and then added."""


class LinkRemoved(_Link):
    """An entity is not linked to a URL any more."""
