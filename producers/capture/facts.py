"""The database as its catalogue describes it, and what capture knows of MusicBrainz's tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from events.tables import EDITOR, Table, quote_ident

ReplicationType = Literal["RT_MASTER", "RT_MIRROR", "RT_STANDALONE"]

# Of our own objects; one more with every change that an older release could not live with.
VERSION = 1
SCHEMA_SEQUENCE = 31
OLDEST_SERVER = 150000

RECORDCHANGE = "dbmirror2.recordchange"
RECORD_EDITOR = "mbevents.record_editor"
SANITIZE = "musicbrainz.sanitize_dbmirror2_editor_data"
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
