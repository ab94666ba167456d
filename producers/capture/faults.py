"""What can be wrong with a database, with a fix for each: before an installation, and after it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from events.errors import MbeventsError, UsageError, VersionMismatchError
from events.tables import EDITOR, quote_ident
from producers.capture.facts import (
    CAPTURE_TABLES,
    EDITOR_COLUMNS,
    OLDEST_SERVER,
    OUTBOX,
    PENDING_COLUMNS,
    RECORDCHANGE,
    SANITIZE,
    SCHEMA_SEQUENCE,
    VERSION,
    Facts,
    ReplicationType,
)

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """Why nothing is installed: what is wrong, and what to do about it."""

    code: str
    what: str
    fix: str
    error: type[MbeventsError] = UsageError


def refusals(facts: Facts, replication_type: ReplicationType) -> Iterator[Fault]:
    """Faults with which nothing is installed; the first ones hide those that would only follow from them."""
    if facts.server_version < OLDEST_SERVER:
        yield Fault(
            "server_too_old",
            f"The server is PostgreSQL {facts.server_version // 10000}.",
            f"{OLDEST_SERVER // 10000} is the oldest that is supported: upgrade the server.",
            VersionMismatchError,
        )
        return
    if "musicbrainz" not in facts.schemas:
        yield Fault(
            "no_musicbrainz",
            "It has no schema musicbrainz.",
            "Check DATABASE_URL: it must name the MusicBrainz database.",
        )
        return
    if facts.schema_sequence != SCHEMA_SEQUENCE:
        found = "unknown" if facts.schema_sequence is None else str(facts.schema_sequence)
        yield Fault(
            "schema_sequence",
            f"Its MusicBrainz schema sequence (musicbrainz.replication_control.current_schema_sequence) is {found}; "
            f"this release knows {SCHEMA_SEQUENCE}.",
            "Upgrade the database with MusicBrainz's upgrade.sh, or use the release of mbevents for that schema.",
            VersionMismatchError,
        )
        return
    if facts.version is not None and facts.version > VERSION:
        yield Fault(
            "newer_version",
            f"It has version {facts.version} of mbevents's own objects; this release knows {VERSION}.",
            "Upgrade mbevents.",
            VersionMismatchError,
        )
        return
    yield from _wrong_type(facts, replication_type)
    if replication_type != "RT_MIRROR":
        yield from _uncapturable(facts)
    yield from _missing_rights(facts, replication_type)


def _wrong_type(facts: Facts, replication_type: ReplicationType) -> Iterator[Fault]:
    if replication_type == "RT_MIRROR":
        capturing = facts.capturing()
        if capturing:
            yield Fault(
                "mirror_captures",
                f"REPLICATION_TYPE is RT_MIRROR, which captures nothing, but there are {len(capturing)} capture "
                f"triggers ({_some([trigger.full for trigger in capturing])}).",
                "Set REPLICATION_TYPE to what the database is, or take the triggers away: `mbevents db uninstall`, or "
                "MusicBrainz's DropReplicationTriggers2.sql if its own tools made them.",
            )
        return
    mirror = [trigger for trigger in facts.triggers if trigger.name.endswith("_mirror")]
    if mirror:
        yield Fault(
            "is_a_mirror",
            f"REPLICATION_TYPE is {replication_type}, but the database has triggers that only mirrors have "
            f"({_some([trigger.full for trigger in mirror])}).",
            "Set REPLICATION_TYPE=RT_MIRROR; or, to make the mirror a standalone database, run MusicBrainz's "
            "DropMirrorOnlyTriggers.sql and create its foreign keys and triggers first.",
        )
    if facts.foreign and replication_type == "RT_STANDALONE":
        yield Fault(
            "foreign_standalone",
            "REPLICATION_TYPE is RT_STANDALONE, whose captured rows are trimmed, but this database's capture is "
            "dbmirror2's own, whose rows only its exporter deletes.",
            "Set REPLICATION_TYPE=RT_MASTER; or, if nothing exports them, take that capture away: run MusicBrainz's "
            f"DropAllReplicationTriggers2.sql, then `DROP FUNCTION {RECORDCHANGE}()`.",
        )


def _uncapturable(facts: Facts) -> Iterator[Fault]:
    without = [table.full for table in facts.captured if not table.primary_key]
    if without:
        yield Fault(
            "no_primary_key",
            f"Without a primary key no row can be told from another: {_some(without)} {_has(without)} none.",
            "Run MusicBrainz's CreatePrimaryKeys.sql, or move tables that are not MusicBrainz's to another schema.",
        )
    unknown = sorted(facts.editor_columns - EDITOR_COLUMNS)
    if unknown:
        yield Fault(
            "unknown_editor_column",
            f"{EDITOR} has columns of which is not known whether they are private: {_some(unknown)}.",
            "Move them to a table of their own, outside the schema musicbrainz.",
        )
    lacking = sorted(PENDING_COLUMNS - facts.pending_columns)
    if CAPTURE_TABLES[0] in facts.relations and lacking:
        yield Fault(
            "unknown_pending_data",
            f"dbmirror2.pending_data is there, but without the columns {_some(lacking)}: it is not dbmirror2's.",
            "Rename that schema, or upgrade dbmirror2.",
        )
    yield from _unsanitised(facts)


def _unsanitised(facts: Facts) -> Iterator[Fault]:
    sanitises = any(trigger.function == SANITIZE and trigger.enabled in "OA" for trigger in facts.triggers)
    if facts.foreign and not sanitises and any(each.function == RECORDCHANGE for each in facts.capturing(EDITOR)):
        yield Fault(
            "editors_in_clear",
            "dbmirror2's capture is there and logs e-mail addresses and passwords of editors as they are.",
            "Run MusicBrainz's CreateCustomReplicationTriggers2.sql.",
        )


def _missing_rights(facts: Facts, replication_type: ReplicationType) -> Iterator[Fault]:
    captures = replication_type != "RT_MIRROR"
    wanted = {"mbevents", "dbmirror2"} if captures else {"mbevents"}
    if not facts.may_create_schemas and wanted - facts.schemas:
        yield Fault(
            "missing_privilege",
            f"User {facts.user} may not create schemas.",
            f"As a superuser: GRANT CREATE ON DATABASE {quote_ident(facts.database)} TO {quote_ident(facts.user)};",
        )
    closed = sorted(wanted & facts.closed_schemas)
    if closed:
        yield Fault(
            "missing_privilege",
            f"User {facts.user} may not create anything in {_some(closed)}.",
            "Install as the owner, or: "
            + " ".join(f"GRANT CREATE, USAGE ON SCHEMA {name} TO {quote_ident(facts.user)};" for name in closed),
        )
    touched = [table for table in facts.tables if captures and (table.replicated or table.full in OUTBOX)]
    others = [table.full for table in touched if not table.owned]
    if others:
        yield Fault(
            "missing_privilege",
            f"User {facts.user} does not own {_some(others)}, and only the owner makes and drops triggers.",
            "Install as the owner or a superuser.",
        )


def changes(facts: Facts) -> Iterator[Fault]:
    """What somebody changed about the triggers and functions of an installation; what is missing is the plan's."""
    for trigger in facts.triggers:
        ours = trigger.function.startswith("mbevents.") or trigger.function in (RECORDCHANGE, SANITIZE)
        if ours and trigger.enabled not in "OA":
            yield Fault(
                "trigger_disabled",
                f"Trigger {trigger.full} is disabled: its changes are lost.",
                f"ALTER TABLE {trigger.table} ENABLE TRIGGER {quote_ident(trigger.name)};",
            )
    for table in facts.captured:
        twice = facts.capturing(table.full)
        if len(twice) > 1:
            names = [quote_ident(trigger.name) for trigger in twice]
            yield Fault(
                "captured_twice",
                f"{table.full} is captured {len(twice)} times, by {_some(names)}: every change is logged as often.",
                f"DROP TRIGGER {names[-1]} ON {table.full};",
            )
    expected = {table.full for table in facts.captured}
    for trigger in facts.capturing():
        if trigger.table not in expected:
            yield Fault(
                "captured_needlessly",
                f"{trigger.table} is not replicated, but {trigger.full} captures it: it would get into packets.",
                f"DROP TRIGGER {trigger.full};",
            )


def _some(names: Iterable[str]) -> str:
    """The first few, and how many more."""
    every = list(names)
    more = len(every) - _NAMED
    return ", ".join(every[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _has(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"
