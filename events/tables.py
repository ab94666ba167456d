"""MusicBrainz's tables as the catalogue describes them, and which of them are replicated."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from events.sql import queries

if TYPE_CHECKING:
    import psycopg

SCHEMAS = ("musicbrainz", "cover_art_archive", "event_art_archive", "documentation", "statistics", "wikidocs")

# Of the schema musicbrainz; of the others everything is replicated. By name, so that what an upgrade adds is captured.
NOT_REPLICATED = (
    "application", "area_containment", "artist_release", "artist_release_*", "autoeditor_election*", "deleted_entity",
    "edit", "edit_*", "editor_*", "*_rating_raw", "*_tag_raw", "old_editor_name", "release_first_release_date",
    "tag_relation", "unreferenced_row_log", "vote",
)  # fmt: skip
REPLICATED_ALL_THE_SAME = ("editor_collection_type",)

EDITOR = "musicbrainz.editor"
# Captured (editor for events, without what is private), but in no packet.
NOT_IN_PACKETS = (EDITOR, "musicbrainz.recording_first_release_date")

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def quote_ident(name: str) -> str:
    """For names that are no key words, as PostgreSQL's function of that name writes them."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Table:
    """`full` is its quoted and qualified name, as PostgreSQL writes it and as it is captured.

    `owned`: the installing user has its owner's rights, which making and dropping a trigger take.
    """

    schema: str
    name: str
    full: str
    primary_key: tuple[str, ...]
    owned: bool

    @property
    def replicated(self) -> bool:
        if self.schema != "musicbrainz" or self.name in REPLICATED_ALL_THE_SAME:
            return True
        return not any(fnmatchcase(self.name, pattern) for pattern in NOT_REPLICATED)

    @property
    def in_packets(self) -> bool:
        return self.replicated and self.full not in NOT_IN_PACKETS


def read_tables(connection: "psycopg.Connection[Any]", schemas: Sequence[str] = SCHEMAS) -> tuple[Table, ...]:
    """All tables of these schemas, by name."""
    rows = connection.execute(queries("events", "tables.sql")["tables"], {"schemas": list(schemas)}).fetchall()
    return tuple(Table(schema, name, full, tuple(key), owned) for schema, name, full, owned, key in rows)
