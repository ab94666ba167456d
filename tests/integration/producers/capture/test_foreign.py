"""A database where MusicBrainz's own tools already capture: used as it is."""

from collections.abc import Iterator

import pytest

from events.errors import UsageError
from producers.capture.service import check, install, uninstall
from tests.integration.producers.capture.support import (
    TRIGGERS,
    Connection,
    add_artist,
    brief,
    connect,
    install_dbmirror2,
    pending,
    run_scripts,
    script,
    value,
)
from tests.integration.producers.capture.test_install import everything


@pytest.fixture
def theirs(database: str) -> Iterator[Connection]:
    """A database that MusicBrainz's own scripts made capture."""
    with connect(database) as connection:
        install_dbmirror2(connection)
        yield connection


def source(connection: Connection) -> str:
    return str(value(connection, "SELECT prosrc FROM pg_proc WHERE oid = 'dbmirror2.recordchange'::regproc"))


def test_it_is_used_as_it_is_and_nothing_is_captured_twice(theirs: Connection) -> None:
    before = source(theirs)
    plan = install(theirs, replication_type="RT_MASTER")
    assert plan.foreign
    assert not any("reptg2" in line or "dbmirror2.pending_data" in line for line in plan.lines)
    assert source(theirs) == before
    report = check(theirs, replication_type="RT_MASTER")
    assert report.ok
    assert report.foreign
    add_artist(theirs)
    assert brief(theirs) == [("artist_meta", "i"), ("artist", "i")]


def test_its_transactions_wake_the_bridge_once(theirs: Connection, database: str) -> None:
    install(theirs, replication_type="RT_MASTER")
    with connect(database) as listening:
        listening.execute("LISTEN mbevents")
        with theirs.transaction():
            add_artist(theirs)
            add_artist(theirs)
        assert [(each.channel, each.payload) for each in listening.notifies(timeout=0.1)] == [("mbevents", "")]


def test_edits_and_truncates_are_told_all_the_same(theirs: Connection) -> None:
    install(theirs, replication_type="RT_MASTER")
    theirs.execute("INSERT INTO editor (id, name, email, password, ha1) VALUES (600, 'E', 'secret@mail', 'pw', 'ha')")
    theirs.execute("TRUNCATE artist_ipi")
    kinds = theirs.execute("SELECT kind FROM mbevents.outbox ORDER BY seqid").fetchall()
    assert kinds == [("editor",), ("truncate",)]
    assert "secret@mail" not in str(pending(theirs))


def test_only_missing_triggers_are_added(theirs: Connection) -> None:
    theirs.execute("DROP TRIGGER reptg2_artist ON artist")
    theirs.execute("DROP TRIGGER reptg2_editor ON editor")
    plan = install(theirs, replication_type="RT_MASTER")
    assert "create trigger reptg2_… (2 tables)" in plan.lines
    with theirs.transaction():
        add_artist(theirs)
        theirs.execute("INSERT INTO editor (id, name, email, password, ha1) VALUES (600, 'E', 's@mail', 'pw', 'ha')")
        theirs.execute("UPDATE editor SET name = 'F' WHERE id = 600")
    assert brief(theirs) == [("artist_meta", "i"), ("artist", "i"), ("editor", "i"), ("editor", "u")]
    assert "s@mail" not in str(pending(theirs))
    assert value(theirs, "SELECT count(*) FROM dbmirror2.pending_ts") == 1


def test_a_standalone_database_is_refused_until_it_is_a_master_or_the_capture_is_gone(theirs: Connection) -> None:
    before = everything(theirs)
    with pytest.raises(UsageError, match=r"only its exporter deletes.*REPLICATION_TYPE=RT_MASTER"):
        install(theirs, replication_type="RT_STANDALONE")
    assert everything(theirs) == before
    install(theirs, replication_type="RT_MASTER")
    assert [each.code for each in check(theirs, replication_type="RT_STANDALONE").faults] == ["foreign_standalone"]
    uninstall(theirs)
    # What the fault's fix says, which is all of DropAllReplicationTriggers2.sql.
    run_scripts(theirs, *(name.replace("Create", "Drop") for name in TRIGGERS.values()))
    theirs.execute("DROP FUNCTION dbmirror2.recordchange()")
    assert not install(theirs, replication_type="RT_STANDALONE").foreign
    assert check(theirs, replication_type="RT_STANDALONE").ok


def test_tables_without_its_function_are_used_too(theirs: Connection) -> None:
    theirs.execute("DROP FUNCTION dbmirror2.recordchange() CASCADE")
    plan = install(theirs)
    assert not plan.foreign
    assert "create function dbmirror2.recordchange" in plan.lines
    assert "create table dbmirror2.pending_data" not in plan.lines
    add_artist(theirs)
    assert brief(theirs) == [("artist_meta", "i"), ("artist", "i")]


def test_uninstall_leaves_it_as_it_was(theirs: Connection) -> None:
    before = everything(theirs)
    install(theirs, replication_type="RT_MASTER")
    assert uninstall(theirs).done
    assert everything(theirs) == before
    add_artist(theirs)
    assert len(pending(theirs)) == 2


def test_uninstall_does_not_ask_about_changes_that_are_not_ours(theirs: Connection) -> None:
    install(theirs, replication_type="RT_MASTER")
    add_artist(theirs)
    assert uninstall(theirs).done
    assert len(pending(theirs)) == 2


def test_editors_in_clear_are_refused_until_its_own_script_mends_it(database: str) -> None:
    with connect(database) as connection:
        install_dbmirror2(connection, sanitize=False)
        with pytest.raises(UsageError, match=r"CreateCustomReplicationTriggers2\.sql"):
            install(connection, replication_type="RT_MASTER")
        run_scripts(connection, "CreateCustomReplicationTriggers2")
        assert install(connection, replication_type="RT_MASTER").foreign


def test_a_pending_data_of_somebody_else_is_refused(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE SCHEMA dbmirror2; CREATE TABLE dbmirror2.pending_data (id integer)")
        with pytest.raises(UsageError, match="it is not dbmirror2's"):
            install(connection)


def test_mirrors_are_known_by_their_triggers(database: str) -> None:
    with connect(database) as connection:
        # Mirrors have these instead of those that a master has.
        run_scripts(connection, "DropTriggers", "CreateMirrorOnlyFunctions", "CreateMirrorOnlyTriggers")
        assert "_mirror" in script("CreateMirrorOnlyTriggers")
        with pytest.raises(UsageError, match="Set REPLICATION_TYPE=RT_MIRROR"):
            install(connection)
        assert install(connection, replication_type="RT_MIRROR").done
