"""link.added and link.removed: an entity and a URL, by the row of the relationship."""

from collections.abc import Iterator

from events.derivation.drafting import Drafting, Ordered
from events.derivation.entity_map import url_column
from events.derivation.state import ENTITY_KINDS, Relationship

_PREFIX = "musicbrainz.l_"


def link_drafts(drafting: Drafting) -> Iterator[Ordered]:
    """A relationship that moved is removed first, then added."""
    for (table, row_id), relationship in drafting.tx.extras.relationships.items():
        yield from _drafts(drafting, table, row_id, relationship)


def linked_type(table: str) -> str:
    """The entity type at the end that is not the URL's: `artist` for `musicbrainz.l_artist_url`."""
    ends = table.removeprefix(_PREFIX)
    return ends.removesuffix("_url") if url_column(table) == "entity1" else ends.removeprefix("url_")


def _drafts(drafting: Drafting, table: str, row_id: int, relationship: Relationship) -> Iterator[Ordered]:
    if relationship.before == relationship.after:
        return
    entity_type = linked_type(table)
    steps = (("link.removed", 2, relationship.before), ("link.added", 3, relationship.after))
    for event, rank, ends in steps:
        if ends is None:
            continue
        entity_id, url_id, link_id = ends
        mbid = drafting.mbid(ENTITY_KINDS[entity_type], entity_id)
        url_mbid = drafting.mbid(ENTITY_KINDS["url"], url_id)
        url = drafting.url(url_id)
        if mbid is None or url_mbid is None or url is None:
            continue
        data = {
            "entity_type": entity_type,
            "id": entity_id,
            "mbid": mbid,
            "table": table,
            "relationship_id": row_id,
            "link_id": link_id,
            "url_id": url_id,
            "url_mbid": url_mbid,
            "url": url,
        }
        yield drafting.draft(relationship.first, rank, event, f"{entity_type}/{mbid}", data)
