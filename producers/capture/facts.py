"""The database as its catalogue describes it, and what capture knows of MusicBrainz's tables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

ReplicationType = Literal["RT_MASTER", "RT_MIRROR", "RT_STANDALONE"]

# Of our own objects; one more with every change that an older release could not live with.
VERSION = 1
SCHEMA_SEQUENCE = 31
OLDEST_SERVER = 150000
SCHEMAS = ("musicbrainz", "cover_art_archive", "event_art_archive", "documentation", "statistics", "wikidocs")

# Of the schema musicbrainz; of the others everything is replicated. By name, so that what an upgrade adds is captured.
NOT_REPLICATED = (
    "application", "area_containment", "artist_release", "artist_release_*", "autoeditor_election*", "deleted_entity",
    "edit", "edit_*", "editor_*", "*_rating_raw", "*_tag_raw", "old_editor_name", "release_first_release_date",
    "tag_relation", "unreferenced_row_log", "vote",
)  # fmt: skip
REPLICATED_ALL_THE_SAME = ("editor_collection_type",)

RECORDCHANGE = "dbmirror2.recordchange"
RECORD_EDITOR = "mbevents.record_editor"
SANITIZE = "musicbrainz.sanitize_dbmirror2_editor_data"
EDITOR = "musicbrainz.editor"
OUTBOX = {
    "musicbrainz.edit": "mbevents.record_edit",
    "musicbrainz.vote": "mbevents.record_vote",
    "musicbrainz.edit_note": "mbevents.record_edit_note",
    EDITOR: "mbevents.tell_editor",
}
# What record_editor knows to be public or replaces: another column might be private.
EDITOR_COLUMNS = frozenset(
    [
        "id",
        "name",
        "privs",
        "email",
        "website",
        "bio",
        "member_since",
        "email_confirm_date",
        "last_login_date",
        "last_updated",
        "birth_date",
        "gender",
        "area",
        "password",
        "ha1",
        "deleted",
    ]
)
PENDING_COLUMNS = frozenset(["seqid", "tablename", "op", "xid", "olddata", "newdata", "oldctid", "trgdepth"])
CAPTURE_TABLES = ("dbmirror2.pending_data", "dbmirror2.pending_keys", "dbmirror2.pending_ts")
BOOKKEEPING = ("mbevents.installed", "mbevents.installed_object")

# pg_trigger.tgtype: for each row, on insert, delete and update.
EVERY_CHANGE = 1 | 4 | 8 | 16
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


@dataclass(frozen=True, slots=True)
class Trigger:
    """`table` is quoted and qualified; `enabled` is pg_trigger.tgenabled, `events` its tgtype."""

    table: str
    name: str
    function: str
    enabled: str
    events: int

    @property
    def full(self) -> str:
        return f"{quote_ident(self.name)} ON {self.table}"


@dataclass(frozen=True, slots=True)
class Made:
    """What we recorded when we made an object: md5 of its source, and of what PostgreSQL made of it."""

    made: str
    found: str | None


@dataclass(frozen=True)
class Facts:
    """The database as it is. `functions` are those of dbmirror2 and mbevents, with the md5 of their definition."""

    database: str
    user: str
    server_version: int
    schema_sequence: int | None
    schemas: frozenset[str]
    tables: tuple[Table, ...]
    relations: frozenset[str]
    functions: Mapping[str, str]
    triggers: tuple[Trigger, ...]
    editor_columns: frozenset[str]
    pending_columns: frozenset[str]
    may_create_schemas: bool
    closed_schemas: frozenset[str]
    version: int | None
    objects: Mapping[tuple[str, str], Made] = field(default_factory=dict)

    @property
    def captured(self) -> list[Table]:
        return [table for table in self.tables if table.replicated]

    @property
    def foreign(self) -> bool:
        """dbmirror2's own function is there: its capture is used as it is."""
        return RECORDCHANGE in self.functions and ("function", RECORDCHANGE) not in self.objects

    def capturing(self, table: str | None = None) -> list[Trigger]:
        """Triggers that log row changes."""
        return [
            trigger
            for trigger in self.triggers
            if trigger.function in (RECORDCHANGE, RECORD_EDITOR) and table in (None, trigger.table)
        ]
