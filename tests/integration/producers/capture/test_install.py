"""Installing, checking and taking away, in a real database."""

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from events.errors import UnreachableError, UsageError, VersionMismatchError
from events.locks import LEADER_KEY
from ops.stack import Stack
from producers.capture.adapters import LockedError
from producers.capture.core import Plan
from producers.capture.facts import VERSION
from producers.capture.service import check, install, uninstall
from tests.integration.producers.capture.support import (
    TRIGGERS,
    Connection,
    add_artist,
    connect,
    pending,
    script,
    value,
)

EVERYTHING = """
SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_'
UNION ALL SELECT 'relation', oid::regclass::text FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_'
UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc WHERE pronamespace::regnamespace::text !~ '^pg_'
UNION ALL SELECT 'trigger', tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal
"""


def everything(connection: Connection) -> set[tuple[Any, ...]]:
    return set(connection.execute(EVERYTHING).fetchall())


@pytest.fixture
def plain(database: str) -> Iterator[Connection]:
    """A database with nothing of ours."""
    with connect(database) as connection:
        yield connection


@pytest.fixture
def ready(captured: str) -> Iterator[Connection]:
    """A database with everything installed."""
    with connect(captured) as connection:
        yield connection


def test_exactly_what_musicbrainz_replicates_is_captured(ready: Connection) -> None:
    expected = {
        f"{schema}.{name}"
        for schema, file in TRIGGERS.items()
        for name in re.findall(r"^CREATE TRIGGER reptg2_(\w+)$", script(file), re.MULTILINE)
    }
    found = ready.execute(
        "SELECT n.nspname || '.' || c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname LIKE 'reptg2\\_%'"
    ).fetchall()
    assert len(expected) == 410
    assert {table for table, _ in found} == expected
    assert all(name == f"reptg2_{table.split('.')[1]}" for table, name in found)


def test_installing_again_changes_nothing(ready: Connection) -> None:
    before = everything(ready)
    assert install(ready) == Plan(())
    assert everything(ready) == before
    assert check(ready).ok


def test_a_dry_run_tells_the_plan_and_does_nothing(plain: Connection) -> None:
    before = everything(plain)
    plan = install(plain, dry_run=True)
    assert not plan.done
    assert "create trigger reptg2_… (410 tables)" in plan.lines
    assert everything(plain) == before
    assert install(plain).steps == plan.steps


@pytest.mark.parametrize("autocommit", [True, False])
def test_it_is_one_transaction_of_its_own_or_a_part_of_the_callers(database: str, *, autocommit: bool) -> None:
    with psycopg.connect(database, autocommit=autocommit) as connection:
        with connection.transaction(force_rollback=True):
            install(connection)
        with connect(database) as other:
            assert not check(other).ok
        install(connection)
        with connect(database) as other:
            assert check(other).ok


def test_a_failure_on_the_way_leaves_nothing(plain: Connection) -> None:
    plain.execute("CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    plain.execute("CREATE TRIGGER reptg2_work AFTER INSERT ON work FOR EACH ROW EXECUTE FUNCTION public.nothing()")
    before = everything(plain)
    with pytest.raises(Exception, match=r"reptg2_work.*already exists.*Nothing was changed"):
        install(plain)
    assert everything(plain) == before


def test_uninstall_leaves_nothing(plain: Connection) -> None:
    before = everything(plain)
    install(plain)
    assert uninstall(plain, dry_run=True).done is False
    assert check(plain).ok
    assert uninstall(plain).done
    assert everything(plain) == before
    assert uninstall(plain) == Plan(())
    install(plain)
    assert check(plain).ok


def test_nothing_is_taken_away_from_under_a_bridge(ready: Connection) -> None:
    with connect(ready.info.dsn) as bridge:
        bridge.execute("SELECT pg_advisory_lock(%s)", (LEADER_KEY,))
        with pytest.raises(UsageError, match=f"backend {bridge.info.backend_pid}"):
            uninstall(ready)
    assert check(ready).ok


def test_uninstall_keeps_what_was_not_read_until_told_to_discard_it(ready: Connection) -> None:
    add_artist(ready)
    ready.execute("INSERT INTO editor (id, name, password, ha1) VALUES (700, 'E', 'p', 'h')")
    ready.execute("INSERT INTO mbevents.task (queue, actor, positions) VALUES ('caches', 'caches.invalidate', '{1}')")
    with pytest.raises(UsageError, match=r"3 captured changes.*1 changes of edits.*1 tasks.*--discard"):
        uninstall(ready)
    assert check(ready).ok
    assert uninstall(ready, discard=True).done


def test_a_reader_in_the_way_of_uninstall_is_named_and_nobody_waits(ready: Connection) -> None:
    with connect(ready.info.dsn) as reader:
        with reader.transaction():
            reader.execute("SELECT * FROM musicbrainz.artist LIMIT 1")
            with pytest.raises(LockedError, match=rf"pid {reader.info.backend_pid} \(.*\) holds \S*artist "):
                uninstall(ready, lock_timeout=0.2)
            # Nothing is held by then: a writer goes through.
            add_artist(ready)
        assert check(ready).ok
        assert uninstall(ready, discard=True, lock_timeout=0.2).done


def test_what_uninstall_counts_is_not_waited_for_while_everything_is_locked(ready: Connection) -> None:
    with connect(ready.info.dsn) as other:
        other.execute("BEGIN; LOCK TABLE mbevents.task")
        with pytest.raises(LockedError, match="another session has locked tables of mbevents"):
            uninstall(ready)
        other.execute("ROLLBACK")
    assert check(ready).ok


def test_uninstall_spares_views_of_others(ready: Connection) -> None:
    ready.execute("CREATE VIEW public.latest AS SELECT * FROM mbevents.event")
    with pytest.raises(UsageError, match=r"public\.latest"):
        uninstall(ready)
    assert check(ready).ok


def test_two_installations_at_once_are_one_after_the_other(database: str) -> None:
    plans: list[Plan] = []
    threads = [threading.Thread(target=lambda: plans.append(install(database))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(plan.steps) > 0 for plan in plans) == [False, False, True]
    with connect(database) as connection:
        assert check(connection).ok


def test_an_installation_that_goes_on_for_long_is_told(plain: Connection, database: str) -> None:
    with plain.transaction():
        install(plain, dry_run=True)
        with pytest.raises(LockedError, match=r"Another session has been installing"):
            install(database, lock_timeout=0.1)


def test_a_writer_in_the_way_is_named_and_not_disturbed(plain: Connection, database: str) -> None:
    with connect(database) as editor:
        with editor.transaction():
            add_artist(editor)
            with pytest.raises(LockedError, match=rf"pid {editor.info.backend_pid} \(postgres, idle in transaction\)"):
                install(plain, lock_timeout=0.2)
            # Nothing is held by then: another writer goes through.
            with connect(database) as another:
                another.execute("SET lock_timeout = '100ms'")
                add_artist(another)
        with editor.transaction():
            editor.execute("SELECT * FROM artist LIMIT 1")
            assert install(plain, lock_timeout=5).done  # readers are not in the way


def test_it_waits_for_a_writer_that_ends_in_time(plain: Connection, database: str) -> None:
    with connect(database) as editor:
        editor.execute("BEGIN")
        add_artist(editor)
        timer = threading.Timer(0.3, editor.execute, ["COMMIT"])
        timer.start()
        assert install(plain, lock_timeout=20).done
        timer.join()


def test_what_is_committed_before_is_not_captured_and_what_comes_after_is(plain: Connection) -> None:
    add_artist(plain)
    install(plain)
    assert pending(plain) == []
    add_artist(plain)
    assert len(pending(plain)) == 2


def test_tables_without_a_primary_key_are_refused(plain: Connection) -> None:
    plain.execute("CREATE TABLE musicbrainz.loose (id integer)")
    before = everything(plain)
    with pytest.raises(UsageError, match=r"musicbrainz\.loose has none"):
        install(plain)
    assert everything(plain) == before


def test_another_schema_sequence_is_refused(plain: Connection) -> None:
    plain.execute("UPDATE replication_control SET current_schema_sequence = 30")
    with pytest.raises(VersionMismatchError, match="is 30; this release knows 31"):
        install(plain)


def test_a_newer_installation_is_refused(ready: Connection) -> None:
    ready.execute("UPDATE mbevents.installed SET version = %s", (VERSION + 1,))
    with pytest.raises(VersionMismatchError, match="Upgrade mbevents"):
        install(ready)
    assert [fault.code for fault in check(ready).faults] == ["newer_version"]


def test_a_database_without_musicbrainz_is_refused(stack: Stack) -> None:
    with pytest.raises(UsageError, match="no schema musicbrainz"):
        install(stack.database_url("postgres"))


def test_a_server_that_does_not_answer_is_told() -> None:
    with pytest.raises(UnreachableError, match="Check DATABASE_URL"):
        install("postgresql://nobody@127.0.0.1:1/none")


def test_a_mirror_gets_the_log_and_no_triggers(plain: Connection) -> None:
    install(plain, replication_type="RT_MIRROR")
    assert check(plain, replication_type="RT_MIRROR").ok
    add_artist(plain)
    assert value(
        plain, "SELECT to_regclass('dbmirror2.pending_data') IS NULL AND to_regclass('mbevents.event') IS NOT NULL"
    )
    install(plain, replication_type="RT_STANDALONE")
    with pytest.raises(UsageError, match="RT_MIRROR, which captures nothing"):
        install(plain, replication_type="RT_MIRROR")
    assert [fault.code for fault in check(plain, replication_type="RT_MIRROR").faults] == ["mirror_captures"]


class TestOtherUsers:
    @pytest.fixture
    def owner(self, plain: Connection, database: str) -> Iterator[str]:
        """URL of a user who owns all of MusicBrainz's objects and is no superuser."""
        plain.execute("DROP ROLE IF EXISTS mb_owner")
        plain.execute("CREATE ROLE mb_owner LOGIN")
        tables = plain.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text "
            "IN ('musicbrainz', 'cover_art_archive', 'event_art_archive', 'documentation', 'statistics', 'wikidocs')"
        ).fetchall()
        for (table,) in tables:
            plain.execute(f"ALTER TABLE {table} OWNER TO mb_owner".encode())
        for schema in TRIGGERS:
            plain.execute(f"GRANT ALL ON SCHEMA {schema} TO mb_owner".encode())
        yield database.replace("postgres@", "mb_owner@")
        plain.execute("REASSIGN OWNED BY mb_owner TO postgres; DROP OWNED BY mb_owner; DROP ROLE mb_owner")

    def test_the_owner_can_install_and_take_away(self, plain: Connection, owner: str) -> None:
        with pytest.raises(UsageError, match=r"GRANT CREATE ON DATABASE \S+ TO mb_owner"):
            install(owner)
        plain.execute(f"GRANT CREATE ON DATABASE {plain.info.dbname} TO mb_owner".encode())
        assert install(owner).done
        assert check(owner).ok
        with connect(owner) as connection:
            add_artist(connection)
            assert len(pending(connection)) == 2
        assert uninstall(owner, discard=True).done

    def test_who_does_not_own_a_table_is_told_which(self, plain: Connection, owner: str) -> None:
        plain.execute(f"GRANT CREATE ON DATABASE {plain.info.dbname} TO mb_owner".encode())
        plain.execute("ALTER TABLE artist OWNER TO postgres")
        with pytest.raises(UsageError, match=r"User mb_owner does not own musicbrainz\.artist"):
            install(owner)

    def test_who_may_not_look_is_told(self, ready: Connection, captured: str) -> None:
        ready.execute("DROP ROLE IF EXISTS mb_stranger")
        ready.execute("CREATE ROLE mb_stranger LOGIN")
        try:
            with pytest.raises(UsageError, match=r"Cannot check: permission denied"):
                check(captured.replace("postgres@", "mb_stranger@"))
        finally:
            ready.execute("DROP ROLE mb_stranger")


def broken(connection: Connection, statement: str) -> list[tuple[str, str]]:
    """The faults after a statement; each is mended by doing what it says, so that none is left."""
    connection.execute(statement.encode())
    faults = check(connection).faults
    for fault in faults:
        if fault.fix.endswith(";"):
            connection.execute(fault.fix.encode())
    install(connection)
    assert check(connection).ok
    return [(fault.code, fault.what) for fault in faults]


@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("DROP TRIGGER reptg2_artist ON artist", "trigger_missing", "its changes are not captured"),
        ("DROP TRIGGER mbevents_outbox ON edit", "trigger_missing", "becomes no event"),
        ("DROP TRIGGER mbevents_truncate ON artist", "trigger_missing", "TRUNCATE"),
        ("ALTER TABLE artist DISABLE TRIGGER reptg2_artist", "trigger_disabled", "reptg2_artist"),
        ("ALTER TABLE artist ENABLE REPLICA TRIGGER reptg2_artist", "trigger_disabled", "reptg2_artist"),
        ("CREATE TABLE musicbrainz.mood2 (id integer PRIMARY KEY)", "trigger_missing", "musicbrainz.mood2"),
        (
            "CREATE TRIGGER twice AFTER INSERT OR UPDATE OR DELETE ON artist FOR EACH ROW "
            "EXECUTE FUNCTION dbmirror2.recordchange()",
            "captured_twice",
            "musicbrainz.artist is captured 2 times",
        ),
        (
            "CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON vote FOR EACH ROW "
            "EXECUTE FUNCTION dbmirror2.recordchange()",
            "captured_needlessly",
            "musicbrainz.vote",
        ),
        (
            "CREATE OR REPLACE FUNCTION dbmirror2.recordchange() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN RETURN NULL; END'",
            "function_changed",
            "dbmirror2.recordchange",
        ),
        ("ALTER FUNCTION dbmirror2.recordchange() SECURITY INVOKER", "function_changed", "dbmirror2.recordchange"),
        ("DROP FUNCTION mbevents.hint()", "function_missing", "mbevents.hint"),
        ("DROP TABLE dbmirror2.pending_keys", "table_missing", "dbmirror2.pending_keys"),
        ("UPDATE mbevents.installed_object SET made = 'x' WHERE kind = 'script'", "script_outdated", "events.log"),
        ("UPDATE mbevents.installed SET version = 0", "version_outdated", "older version"),
    ],
)
def test_a_check_finds_what_was_broken_and_its_fix_mends_it(
    ready: Connection, statement: str, code: str, said: str
) -> None:
    ready.execute("SET search_path = musicbrainz, public")
    found = broken(ready, statement)
    assert code in [found_code for found_code, _ in found]
    assert any(said in what for _, what in found)


def test_a_renamed_table_is_captured_under_its_new_name(ready: Connection) -> None:
    ready.execute('ALTER TABLE artist_ipi RENAME TO "artist 📜"')
    artist = add_artist(ready)
    ready.execute("INSERT INTO \"artist 📜\" (artist, ipi) VALUES (%s, '00014107338')", (artist,))
    assert pending(ready)[-1].table == 'musicbrainz."artist 📜"'
    assert check(ready).ok


def test_a_template_is_enough_for_many_databases(captured_template: str, clone: Callable[[str], str]) -> None:
    for url in (clone(captured_template), clone(captured_template)):
        assert check(url).ok
