from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import MbeventsError, UsageError, VersionMismatchError
from events.locks import AWAKE_KEY
from events.sql import queries
from events.tables import Table, quote_ident
from producers.capture.adapters import definitions
from producers.capture.core import Plan, digest, plan_install, plan_uninstall, report
from producers.capture.facts import (
    EDITOR_COLUMNS,
    PENDING_COLUMNS,
    RECORDCHANGE,
    VERSION,
    Facts,
    Made,
    Trigger,
)

DEFINITIONS = {
    "mbevents.installed": "CREATE TABLE mbevents.installed",
    "mbevents.installed_object": "CREATE TABLE mbevents.installed_object",
    "events.log": "CREATE TABLE IF NOT EXISTS mbevents.event",
    "mbevents.hint": "CREATE FUNCTION mbevents.hint",
    "dbmirror2.pending_data": "CREATE TABLE dbmirror2.pending_data",
    RECORDCHANGE: "CREATE FUNCTION dbmirror2.recordchange",
}
EVERY_CHANGE = 29


def table(name: str, *, schema: str = "musicbrainz") -> Table:
    return Table(schema, name, f"{schema}.{name}", ("id",), owned=True)


ARTIST = table("artist")


def a_database(**changed: object) -> Facts:
    tables = tuple(table(name) for name in ("artist", "edit", "edit_note", "editor", "vote", "artist_tag_raw"))
    facts = Facts(
        database="mb",
        user="musicbrainz",
        server_version=150004,
        schema_sequence=31,
        schemas=frozenset({"musicbrainz"}),
        tables=tables,
        relations=frozenset(),
        functions={},
        triggers=(),
        editor_columns=EDITOR_COLUMNS,
        pending_columns=frozenset(),
        may_create_schemas=True,
        closed_schemas=frozenset(),
        version=None,
    )
    return replace(facts, **changed)  # type: ignore[arg-type]  # names and types are those of Facts


def installed(facts: Facts) -> Facts:
    """The facts after the plan for them was carried out."""
    plan = plan_install(facts, "RT_STANDALONE", DEFINITIONS)
    made: dict[tuple[str, str], Made] = {
        (step.kind, step.name): Made(step.made, "found") for step in plan.steps if step.made
    }
    triggers = [
        Trigger(
            step.name.split(" ON ")[1],
            step.name.split(" ON ")[0],
            step.statement.split("EXECUTE FUNCTION ")[1].removesuffix("()"),
            "O",
            EVERY_CHANGE,
        )
        for step in plan.steps
        if step.kind == "trigger"
    ]
    return replace(
        facts,
        schemas=facts.schemas | {"mbevents", "dbmirror2"},
        relations=facts.relations | {name for kind, name in made if kind == "table"},
        functions={**facts.functions, **{name: "found" for kind, name in made if kind == "function"}},
        triggers=(*facts.triggers, *triggers),
        pending_columns=PENDING_COLUMNS,
        version=VERSION,
        objects=made,
    )


def triggers_of(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for step in plan.steps:
        if step.kind == "trigger":
            name, table = step.name.split(" ON ")
            found.setdefault(table, []).append(name)
    return found


def test_what_is_replicated_is_captured_and_the_rest_is_not() -> None:
    triggers = triggers_of(plan_install(a_database(), "RT_STANDALONE", DEFINITIONS))
    assert triggers == {
        "musicbrainz.artist": ["reptg2_artist", "mbevents_truncate"],
        "musicbrainz.editor": ["reptg2_editor", "mbevents_outbox", "mbevents_truncate"],
        "musicbrainz.edit": ["mbevents_outbox", "mbevents_truncate"],
        "musicbrainz.edit_note": ["mbevents_outbox", "mbevents_truncate"],
        "musicbrainz.vote": ["mbevents_outbox", "mbevents_truncate"],
    }


def test_editors_are_captured_by_a_function_that_replaces_what_is_private() -> None:
    plan = plan_install(a_database(), "RT_STANDALONE", DEFINITIONS)
    (statement,) = (step.statement for step in plan.steps if step.name == "reptg2_editor ON musicbrainz.editor")
    assert statement.endswith("EXECUTE FUNCTION mbevents.record_editor()")


def test_a_table_that_an_upgrade_adds_is_captured() -> None:
    facts = installed(a_database())
    facts = replace(facts, tables=(*facts.tables, table("mood")))
    assert triggers_of(plan_install(facts, "RT_STANDALONE", DEFINITIONS)) == {
        "musicbrainz.mood": ["reptg2_mood", "mbevents_truncate"]
    }


@pytest.mark.parametrize(
    ("schema", "name", "replicated"),
    [
        ("musicbrainz", "editor_collection_type", True),
        ("musicbrainz", "editor_collection", False),
        ("musicbrainz", "edit_data", False),
        ("musicbrainz", "release_first_release_date", False),
        ("musicbrainz", "recording_first_release_date", True),
        ("musicbrainz", "artist_release_group_nonva", False),
        ("cover_art_archive", "edit_like_name", True),
    ],
)
def test_the_names_of_what_is_not_replicated_are_exact(schema: str, name: str, replicated: bool) -> None:
    assert table(name, schema=schema).replicated is replicated


def test_a_second_installation_has_nothing_to_do() -> None:
    assert plan_install(installed(a_database()), "RT_STANDALONE", DEFINITIONS).steps == ()


def test_a_mirror_gets_the_log_but_no_capture() -> None:
    plan = plan_install(a_database(), "RT_MIRROR", DEFINITIONS)
    assert [step.name for step in plan.steps] == [
        "mbevents", "mbevents.installed", "mbevents.installed_object", "events.log", str(VERSION),
    ]  # fmt: skip


def test_functions_that_were_changed_or_are_older_are_replaced() -> None:
    facts = installed(a_database())
    changed = replace(facts, functions={**facts.functions, "mbevents.hint": "other"})
    older = replace(facts, objects={**facts.objects, ("function", RECORDCHANGE): Made(digest("old"), "found")})
    assert [step.name for step in plan_install(changed, "RT_MASTER", DEFINITIONS).steps][:1] == ["mbevents.hint"]
    assert [step.name for step in plan_install(older, "RT_MASTER", DEFINITIONS).steps][:1] == [RECORDCHANGE]


def with_dbmirror2() -> Facts:
    """A database that dbmirror2 captures."""
    return a_database(
        functions={RECORDCHANGE: "theirs"},
        relations=frozenset({"dbmirror2.pending_data", "dbmirror2.pending_ts", "dbmirror2.pending_keys"}),
        schemas=frozenset({"musicbrainz", "dbmirror2"}),
        pending_columns=PENDING_COLUMNS,
        triggers=(Trigger("musicbrainz.artist", "reptg2_artist", RECORDCHANGE, "O", EVERY_CHANGE),),
    )


def test_a_capture_that_is_there_is_used_and_wakes_the_bridge() -> None:
    plan = plan_install(with_dbmirror2(), "RT_MASTER", DEFINITIONS)
    assert plan.foreign
    assert RECORDCHANGE not in [step.name for step in plan.steps]
    assert triggers_of(plan)["musicbrainz.artist"] == ["mbevents_truncate"]
    assert triggers_of(plan)["dbmirror2.pending_ts"] == ["mbevents_hint"]


def test_a_capture_that_is_there_is_refused_where_captured_rows_are_trimmed() -> None:
    with pytest.raises(UsageError, match="Set REPLICATION_TYPE=RT_MASTER"):
        plan_install(with_dbmirror2(), "RT_STANDALONE", DEFINITIONS)
    found = report(with_dbmirror2(), "RT_STANDALONE", DEFINITIONS)
    assert [fault.code for fault in found.faults] == ["foreign_standalone"]


def test_a_capture_of_only_some_changes_counts_as_none() -> None:
    only_inserts = Trigger("musicbrainz.artist", "reptg2_x", RECORDCHANGE, "O", 1 | 4)
    plan = plan_install(a_database(triggers=(only_inserts,)), "RT_STANDALONE", DEFINITIONS)
    assert "reptg2_artist" in triggers_of(plan)["musicbrainz.artist"]


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"server_version": 140011}, VersionMismatchError, "PostgreSQL 14"),
        ({"schemas": frozenset()}, UsageError, "no schema musicbrainz"),
        ({"schema_sequence": 30}, VersionMismatchError, "is 30; this release knows 31"),
        ({"schema_sequence": None}, VersionMismatchError, "is unknown"),
        ({"version": VERSION + 1}, VersionMismatchError, "Upgrade mbevents"),
        ({"tables": (replace(ARTIST, primary_key=()),)}, UsageError, "musicbrainz.artist has none"),
        ({"tables": (replace(ARTIST, owned=False),)}, UsageError, "does not own musicbrainz.artist"),
        ({"may_create_schemas": False}, UsageError, "GRANT CREATE ON DATABASE mb TO musicbrainz;"),
        ({"closed_schemas": frozenset({"dbmirror2"})}, UsageError, "SCHEMA dbmirror2 TO musicbrainz;"),
        ({"editor_columns": EDITOR_COLUMNS | {"phone"}}, UsageError, "phone"),
        (
            {"relations": frozenset({"dbmirror2.pending_data"}), "pending_columns": frozenset({"seqid"})},
            UsageError,
            "without the columns",
        ),
        (
            {"triggers": (Trigger("musicbrainz.artist", "a_ins_artist_mirror", "musicbrainz.x", "O", 5),)},
            UsageError,
            "only mirrors have",
        ),
    ],
)
def test_a_database_that_cannot_be_served_is_refused(
    changed: dict[str, object], error: type[MbeventsError], said: str
) -> None:
    with pytest.raises(error, match="Nothing was installed in database mb") as raised:
        plan_install(a_database(**changed), "RT_STANDALONE", DEFINITIONS)
    assert said in str(raised.value)
    found = report(a_database(**changed), "RT_STANDALONE", DEFINITIONS)
    assert not found.ok
    assert all(fault.fix for fault in found.faults)


def test_a_mirror_with_capture_triggers_is_refused() -> None:
    with pytest.raises(UsageError, match="RT_MIRROR, which captures nothing"):
        plan_install(installed(a_database()), "RT_MIRROR", DEFINITIONS)


def test_a_capture_of_editors_in_clear_is_refused() -> None:
    theirs = Trigger("musicbrainz.editor", "reptg2_editor", RECORDCHANGE, "O", EVERY_CHANGE)
    facts = a_database(functions={RECORDCHANGE: "theirs"}, triggers=(theirs,))
    with pytest.raises(UsageError, match=r"CreateCustomReplicationTriggers2\.sql"):
        plan_install(facts, "RT_MASTER", DEFINITIONS)


def test_a_check_finds_what_is_missing_disabled_and_doubled() -> None:
    facts = installed(a_database())
    artist, editor, *rest = facts.triggers
    again = replace(artist, name="reptg2_again")
    lost = [each for each in rest if each.table != "musicbrainz.vote"]
    needless = Trigger("musicbrainz.artist_tag_raw", "reptg2_artist_tag_raw", RECORDCHANGE, "O", EVERY_CHANGE)
    found = report(
        replace(facts, triggers=(artist, again, replace(editor, enabled="D"), needless, *lost)),
        "RT_STANDALONE",
        DEFINITIONS,
    )
    assert sorted((fault.code, fault.what.split(" ")[0]) for fault in found.faults) == [
        ("captured_needlessly", "musicbrainz.artist_tag_raw"),
        ("captured_twice", "musicbrainz.artist"),
        ("trigger_disabled", "Trigger"),
        ("trigger_missing", "Trigger"),
        ("trigger_missing", "Trigger"),
    ]


def test_a_check_of_a_sound_installation_finds_nothing() -> None:
    found = report(installed(a_database()), "RT_STANDALONE", DEFINITIONS)
    assert found.ok
    assert found.to_dict()["captured_tables"] == 2


def test_a_check_says_that_nothing_is_installed() -> None:
    assert [fault.code for fault in report(a_database(), "RT_STANDALONE", DEFINITIONS).faults] == ["not_installed"]


def test_uninstall_leaves_what_others_made() -> None:
    facts = installed(a_database())
    theirs = Trigger("musicbrainz.x", "reptg2_x", "dbmirror2.other", "O", EVERY_CHANGE)
    kept = replace(facts, triggers=(*facts.triggers, theirs), relations=facts.relations | {"dbmirror2.pending_keys"})
    dropped = [step.name for step in plan_uninstall(kept).steps]
    assert theirs.full not in dropped
    assert "dbmirror2" not in dropped
    assert {"dbmirror2.pending_data", RECORDCHANGE, "mbevents"} <= set(dropped)


def test_uninstall_refuses_while_triggers_of_others_need_our_function() -> None:
    facts = installed(a_database())
    theirs = Trigger("musicbrainz.mood", "reptg2_mood", RECORDCHANGE, "O", EVERY_CHANGE)
    with pytest.raises(UsageError, match=r"reptg2_mood ON musicbrainz\.mood"):
        plan_uninstall(replace(facts, triggers=(*facts.triggers, theirs)))


def test_a_plan_reads_as_a_few_lines() -> None:
    lines = plan_install(a_database(), "RT_STANDALONE", DEFINITIONS).lines
    assert lines[0] == "create schema mbevents"
    assert "create trigger reptg2_… (2 tables)" in lines
    assert len(lines) < 15


def test_writers_look_at_the_lock_that_the_bridge_holds() -> None:
    assert f"pg_try_advisory_lock_shared({AWAKE_KEY})" in queries("producers.capture", "hint.sql")["hint"]


def test_every_object_has_a_source_and_bookkeeping_comes_first() -> None:
    names = list(definitions())
    assert names[:2] == ["mbevents.installed", "mbevents.installed_object"]
    assert names.index("dbmirror2.pending_data") < names.index(RECORDCHANGE)


@given(st.from_regex(r"\A[a-z_][a-z0-9_]{0,20}\Z"))
def test_plain_names_are_not_quoted(name: str) -> None:
    assert quote_ident(name) == name


@pytest.mark.parametrize("name", ["📜", "Artist", 'a"b', "1st", "a b"])
def test_other_names_are_quoted(name: str) -> None:
    assert quote_ident(name) == '"' + name.replace('"', '""') + '"'
