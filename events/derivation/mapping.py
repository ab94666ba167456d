"""Which table leads to which entity: rules that turn the schema's foreign keys into the entity map.

Run by `python -m ops.generate` against a database that has foreign keys; mirrors have none, so the result is committed
(`entity_map.json`) and a test makes it again.

The rules:

1. The 13 core entities have the role `entity`; their own foreign keys are mentions: `artist.area` says where an artist
   is from, and moving the artist changes nothing about the area.
2. `<entity>_gid_redirect` has the role `redirect`: where an old MBID leads.
3. Any other table is a `part` of what its foreign keys lead to, directly or by way of other parts
   (`medium_cdtoc` → `medium` → `release`), except the keys in `MENTIONS`.
   A relationship (`l_artist_url`) is a part of both its ends.
4. A table that leads nowhere has the role `none`, with its kind of reason. One that is neither a vocabulary by its name
   nor listed in `NO_ENTITY` is refused: somebody has to decide.

Primary keys need no place in the map: every table that others are parts of has the primary key `id`.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from events.errors import MbeventsError
from schemas.values import ENTITY_TYPES

SCHEMA = "musicbrainz."
REDIRECT = "_gid_redirect"

# Foreign keys of parts that only mention: a change of the row says nothing about what they point to.
MENTIONS = {
    # A release appears under its label, in its countries and with its cover; their own data stay as they were, and a
    # large label or country would be "updated" by every release.
    ("musicbrainz.release_label", "label"),
    ("musicbrainz.release_country", "country"),
    # The release group chose one of its releases' covers.
    ("cover_art_archive.release_group_cover_art", "release"),
    # A credit is shared by everything that uses it; who depends on an artist's credits is the cache's to find.
    ("musicbrainz.artist_credit_name", "artist"),
    # An editor lives somewhere.
    ("musicbrainz.editor", "area"),
}

# Why a table leads to no entity.
REASONS = {
    "vocabulary": "Types, languages, formats: a change of one concerns every entity that uses it, and no single one.",
    "shared": "Shared by whatever points to it and not changed in place: MusicBrainz makes a new row and repoints its "
    "users, and their rows name the entity.",
    "documentation": "Shown on documentation pages only.",
    "statistics": "Counts about the whole database.",
    "unattached": "Submitted discs that nobody has attached to a release.",
    "private": "Told by the outbox, which carries only what may be told.",
    "replication": "About the feed itself.",
    "derived": "Kept by triggers from what is told anyway, and in no packet: a mirror must tell the same.",
    "not core": "Has MBIDs, but is none of the 13 core entities.",
}

# Tables without an entity; a name that ends with a dot is a whole schema.
NO_ENTITY = {
    "documentation.": "documentation",
    "wikidocs.": "documentation",
    "statistics.": "statistics",
    "musicbrainz.annotation": "shared",
    "musicbrainz.alternative_track": "shared",
    "musicbrainz.artist_credit": "shared",
    "musicbrainz.artist_credit_gid_redirect": "shared",
    "musicbrainz.artist_credit_name": "shared",
    "musicbrainz.cdtoc": "shared",
    "musicbrainz.link": "shared",
    "musicbrainz.link_attribute": "shared",
    "musicbrainz.link_attribute_credit": "shared",
    "musicbrainz.link_attribute_text_value": "shared",
    "musicbrainz.tag": "shared",
    "musicbrainz.cdtoc_raw": "unattached",
    "musicbrainz.release_raw": "unattached",
    "musicbrainz.track_raw": "unattached",
    "musicbrainz.editor": "private",
    "musicbrainz.replication_control": "replication",
    "musicbrainz.recording_first_release_date": "derived",
    "musicbrainz.mood": "not core",
    "musicbrainz.mood_alias": "not core",
    "musicbrainz.mood_annotation": "not core",
    "musicbrainz.l_mood_mood": "not core",
}

_VOCABULARY = re.compile(r"_(type|value|format|packaging|status|attribute_type)$|\.(gender|language|script)$")


class ForeignKey(NamedTuple):
    """`table.column` points to `target`, each `schema.table` as `quote_ident` writes it."""

    table: str
    column: str
    target: str


class UndecidedTableError(MbeventsError):
    """The schema has a table that the rules know nothing about."""


def build(schema_sequence: int, tables: Iterable[str], keys: Iterable[ForeignKey]) -> dict[str, Any]:
    """The entity map of these replicated tables, ready for JSON. Raises UndecidedTableError."""
    names = sorted(tables)
    owners = _owners(names, list(keys))
    described = {table: _describe(table, owners) for table in names}
    undecided = [table for table, entry in described.items() if entry is None]
    if undecided:
        raise UndecidedTableError(
            f"These tables lead to no entity and nobody has decided why: {', '.join(undecided)}. "
            "Add each to NO_ENTITY in events/derivation/mapping.py."
        )
    return {"schema_sequence": schema_sequence, "reasons": REASONS, "tables": described}


def _owners(tables: Collection[str], keys: Collection[ForeignKey]) -> dict[str, list[tuple[str, str]]]:
    """The columns of each part that lead to an entity, with what each points to, in the order of their names."""
    candidates: dict[str, list[tuple[str, str]]] = {}
    for key in sorted(keys):
        if key.table in tables and key.target in tables and (key.table, key.column) not in MENTIONS:
            candidates.setdefault(key.table, []).append((key.column, key.target))
    entities = {SCHEMA + entity for entity in ENTITY_TYPES}
    leading = set(entities)
    # Until nothing new is found to lead to an entity: paths are at most a few tables long.
    while (
        found := {table for table, columns in candidates.items() if any(target in leading for _, target in columns)}
        - leading
    ):
        leading |= found
    return {
        table: [(column, target) for column, target in columns if target in leading]
        for table, columns in candidates.items()
        if table in leading and table not in entities
    }


def _describe(table: str, owners: dict[str, list[tuple[str, str]]]) -> dict[str, Any] | None:
    name = table.removeprefix(SCHEMA)
    if table.startswith(SCHEMA) and name in ENTITY_TYPES:
        return {"role": "entity", "entity": name}
    if table.startswith(SCHEMA) and name.removesuffix(REDIRECT) in ENTITY_TYPES:
        return {"role": "redirect", "entity": name.removesuffix(REDIRECT)}
    schema = table.partition(".")[0]
    reason = NO_ENTITY.get(table) or NO_ENTITY.get(f"{schema}.")
    if reason is not None:
        return {"role": "none", "reason": reason}
    if table in owners:
        return {"role": "part", "owners": dict(owners[table])}
    if _VOCABULARY.search(table):
        return {"role": "none", "reason": "vocabulary"}
    return None
