"""Changes of one transaction are logged in the order in which replaying them works, cascades included."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.stack import Stack
from producers.capture.service import install
from tests.integration.producers.capture.support import (
    Change,
    Connection,
    add_artist,
    connect,
    install_dbmirror2,
    pending,
    value,
)

# AFTER triggers that change rows themselves: `a_…` fire before capture's reptg2_…, `z_…` after it.
# n counts how often the same row is to be changed again; `also` names another row to change.
TABLE = """
CREATE TABLE musicbrainz.thing (
    id integer, part integer, n integer NOT NULL DEFAULT 0, also integer, name text, PRIMARY KEY (id, part)
);
CREATE FUNCTION musicbrainz.again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.n > 0 THEN
        UPDATE musicbrainz.thing SET n = n - 1, name = name || TG_NAME WHERE id = NEW.id AND part = NEW.part;
    END IF;
    IF NEW.also IS NOT NULL THEN
        UPDATE musicbrainz.thing SET also = NULL WHERE id = NEW.id AND part = NEW.part;
        UPDATE musicbrainz.thing SET name = name || '*' WHERE id = NEW.also;
    END IF;
    IF NEW.n < 0 THEN
        DELETE FROM musicbrainz.thing WHERE id = NEW.id AND part = NEW.part;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER {name} AFTER INSERT OR UPDATE ON musicbrainz.thing FOR EACH ROW EXECUTE FUNCTION musicbrainz.again();
"""


def things(connection: Connection) -> list[Change]:
    return [change for change in pending(connection) if change.table == "musicbrainz.thing"]


def replay(changes: Sequence[Change]) -> dict[tuple[int, int], dict[str, Any]]:
    """The rows after all transactions, by their last seqid. Every change must find the row that it starts from."""
    last: dict[int, int] = defaultdict(int)
    for change in changes:
        last[change.xid] = max(last[change.xid], change.seqid)
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for change in sorted(changes, key=lambda each: (last[each.xid], each.seqid)):
        if change.old is not None:
            key = (change.old["id"], change.old["part"])
            assert rows.pop(key, None) == change.old, change
        if change.new is not None:
            key = (change.new["id"], change.new["part"])
            assert key not in rows, change
            rows[key] = change.new
    return rows


def rows_of(connection: Connection) -> dict[tuple[int, int], dict[str, Any]]:
    found = connection.execute("SELECT id, part, row_to_json(t) FROM musicbrainz.thing t").fetchall()
    return {(row[0], row[1]): row[2] for row in found}


@pytest.fixture(scope="session", params=["a_again", "z_again"])
def cascading_template(request: pytest.FixtureRequest, stack: Stack) -> str:
    """Name of a template with the table and capture."""
    name = str(request.param)
    with connect(stack.database_url("postgres")) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE musicbrainz".encode())
    with connect(stack.database_url(name)) as connection:
        connection.execute(TABLE.format(name=name).encode())
        install(connection)
    return name


@pytest.fixture
def cascading(cascading_template: str, clone: Callable[[str], str]) -> Iterator[Connection]:
    with connect(clone(cascading_template)) as connection:
        yield connection


def assert_replays(connection: Connection) -> None:
    changes = things(connection)
    assert replay(changes) == rows_of(connection)
    # A change is under a negative number while the order is mended.
    assert min(change.seqid for change in pending(connection)) > 0


@pytest.mark.parametrize("times", [1, 2, 5])
def test_an_insert_that_fires_updates_of_its_row_comes_before_them(cascading: Connection, times: int) -> None:
    cascading.execute("INSERT INTO thing (id, part, n, name) VALUES (1, 1, %s, '')", (times,))
    changes = things(cascading)
    assert [change.op for change in changes] == ["i"] + ["u"] * times
    assert [change.new["n"] for change in changes if change.new] == list(range(times, -1, -1))
    assert_replays(cascading)


def test_an_insert_that_fires_its_delete_comes_before_it(cascading: Connection) -> None:
    cascading.execute("INSERT INTO thing (id, part, n, name) VALUES (1, 1, -1, '')")
    assert [change.op for change in things(cascading)] == ["i", "d"]
    assert_replays(cascading)


def test_one_statement_of_many_rows_that_all_fire_updates_is_in_order(cascading: Connection) -> None:
    cascading.execute("INSERT INTO thing (id, part, n, name) SELECT i, 1, i % 3, '' FROM generate_series(1, 30) i")
    cascading.execute("UPDATE thing SET n = 2, also = 31 - id")
    assert_replays(cascading)


def test_order_is_kept_beside_other_changes_and_savepoints(cascading: Connection) -> None:
    with cascading.transaction():
        add_artist(cascading)
        with cascading.transaction(force_rollback=True):
            cascading.execute("INSERT INTO thing (id, part, n, name) VALUES (1, 1, 2, '')")
        cascading.execute("INSERT INTO thing (id, part, n, name) VALUES (1, 1, 1, '')")
        with cascading.transaction():
            cascading.execute("UPDATE thing SET n = 2")
        cascading.execute("SELECT * FROM thing FOR UPDATE")
        cascading.execute("UPDATE thing SET name = 'locked before'")
        add_artist(cascading)
    assert_replays(cascading)


def test_order_is_kept_while_others_write(cascading: Connection) -> None:
    with connect(cascading.info.dsn) as other, cascading.transaction():
        cascading.execute("INSERT INTO thing (id, part, n, name) VALUES (1, 1, 2, '')")
        other.execute("INSERT INTO musicbrainz.thing (id, part, n, name) VALUES (2, 1, 2, '')")
        cascading.execute("UPDATE thing SET n = 2 WHERE id = 1")
        other.execute("UPDATE musicbrainz.thing SET n = 2 WHERE id = 2")
    assert_replays(cascading)


def test_a_mended_order_leaves_no_gaps(cascading: Connection) -> None:
    with cascading.transaction():
        cascading.execute("INSERT INTO thing (id, part, n, name) SELECT i, 1, 3, '' FROM generate_series(1, 5) i")
        add_artist(cascading)
        cascading.execute("UPDATE thing SET n = 2, also = 6 - id")
    seqids = [change.seqid for change in pending(cascading)]
    assert seqids == list(range(1, len(seqids) + 1))


def test_order_is_kept_beyond_31_bits(cascading: Connection) -> None:
    cascading.execute("SELECT setval('dbmirror2.pending_data_seqid_seq', 2147483645)")
    cascading.execute("INSERT INTO thing (id, part, n, name) VALUES (1, 1, 4, '')")
    assert [change.seqid for change in things(cascading)] == list(range(2147483646, 2147483651))
    assert_replays(cascading)


def test_a_cascade_in_bulk_costs_no_more_for_each_row(cascading: Connection) -> None:
    """Searching all that the transaction logged for every row would take minutes here."""
    cascading.execute("SET statement_timeout = '20s'")
    with cascading.transaction():
        cascading.execute("INSERT INTO thing (id, part, n, name) SELECT i, 1, 0, '' FROM generate_series(1, 5000) i")
        cascading.execute("SELECT count(*) FROM (SELECT FROM thing FOR UPDATE) locked")
        cascading.execute("UPDATE thing SET n = 1 WHERE id <= 1000")
        # Locked rows: each looks as if it could have been replaced.
        cascading.execute("UPDATE thing SET name = 'x'")
    assert_replays(cascading)


OPERATIONS = st.one_of(
    st.tuples(st.just("insert"), st.integers(1, 4), st.integers(-1, 3)),
    st.tuples(st.just("update"), st.integers(1, 4), st.integers(-1, 3)),
    st.tuples(st.just("touch"), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.just("move"), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.just("delete"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("lock"), st.integers(1, 4), st.just(0)),
    st.tuples(st.just("everything"), st.integers(1, 4), st.integers(0, 2)),
)
STATEMENTS = {
    "insert": "INSERT INTO thing (id, part, n, name) VALUES (%(a)s, 1, %(b)s, '') "
    "ON CONFLICT (id, part) DO UPDATE SET n = excluded.n",
    "update": "UPDATE thing SET n = %(b)s WHERE id = %(a)s",
    "touch": "UPDATE thing SET also = %(b)s WHERE id = %(a)s",
    "move": "UPDATE thing SET part = part + %(b)s WHERE id = %(a)s",
    "delete": "DELETE FROM thing WHERE id = %(a)s",
    "lock": "SELECT * FROM thing WHERE id = %(a)s FOR KEY SHARE",
    "everything": "UPDATE thing SET n = %(b)s, also = %(a)s",
}
# A step is done, done in a savepoint that is kept, or in one that is rolled back.
STEPS = st.lists(st.tuples(OPERATIONS, st.sampled_from(["plain", "kept", "undone"])), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=1, max_size=4))
def test_replaying_what_was_captured_gives_the_same_rows(
    cascading: Connection, transactions: list[list[tuple[tuple[str, int, int], str]]]
) -> None:
    cascading.execute("DELETE FROM thing; DELETE FROM dbmirror2.pending_data; DELETE FROM dbmirror2.pending_ts")
    for steps in transactions:
        with cascading.transaction():
            for (kind, a, b), how in steps:
                with ExitStack() as block:
                    if how != "plain":
                        block.enter_context(cascading.transaction(force_rollback=how == "undone"))
                    try:
                        with cascading.transaction():
                            cascading.execute(STATEMENTS[kind].encode(), {"a": a, "b": b})
                    except psycopg.errors.UniqueViolation:
                        pass  # moved onto another row
    assert replay(things(cascading)) == rows_of(cascading)


EDITS: Sequence[tuple[str, Sequence[str]]] = (
    ("new artist", ["INSERT INTO artist (id, gid, name, sort_name) VALUES (5001, '{gid}', 'A', 'A')"]),
    (
        "credit and recording",
        [
            "INSERT INTO artist_credit (id, name, artist_count, gid) VALUES (5001, 'A', 1, '{gid}')",
            "INSERT INTO recording (id, gid, name, artist_credit) VALUES (5001, '{gid}', 'R', 5001)",
            "INSERT INTO recording (id, gid, name, artist_credit) VALUES (5002, gen_random_uuid(), 'R2', 5001)",
            "UPDATE recording SET name = 'R3', length = 1000 WHERE id = 5001",
            "DELETE FROM recording_meta WHERE id = 5002",
            "DELETE FROM recording WHERE id = 5002",
        ],
    ),
    ("rename", ["UPDATE artist SET name = 'B', edits_pending = 1 WHERE id = 5001"]),
    ("thing", ["INSERT INTO thing (id, part, n, name) VALUES (1, 1, 3, ''), (2, 1, 2, '')"]),
    ("thing again", ["UPDATE thing SET n = 2, also = 3 - id", "UPDATE thing SET n = -1 WHERE id = 1"]),
    ("editor", ["INSERT INTO editor (id, name, email, password, ha1) VALUES (801, 'E', 's', 'p', 'h')"]),
    ("renamed editor", ["UPDATE editor SET name = 'F', bio = 'x' WHERE id = 801"]),
    ("login", ["UPDATE editor SET last_login_date = now() WHERE id = 801"]),
    ("no editor", ["DELETE FROM editor WHERE id = 801"]),
)
_TIME = re.compile(r'"\d{4}-\d\d-\d\dT[^"]*"')


@pytest.mark.parametrize("trigger", ["a_again", "z_again"])
def test_the_same_is_logged_as_by_dbmirror2_itself(trigger: str, clone: Callable[[], str]) -> None:
    def log(prepare: Callable[[Connection], object]) -> list[tuple[Any, ...]]:
        with connect(clone()) as connection:
            connection.execute(TABLE.format(name=trigger).encode())
            prepare(connection)
            connection.execute("SET search_path = musicbrainz, public")
            transactions: dict[int, str] = {}
            for name, statements in EDITS:
                with connection.transaction():
                    transactions[value(connection, "SELECT txid_current()")] = name
                    for statement in statements:
                        gid = f"00000000-0000-4000-8000-{len(name):012}"
                        connection.execute(statement.replace("{gid}", gid).encode())
            return [
                (
                    transactions[change.xid], change.table, change.op, change.depth,
                    _TIME.sub('"time"', json.dumps([change.old, change.new])).replace(_random(change), "gid"),
                )
                for change in pending(connection)
            ]  # fmt: skip

    def theirs(connection: Connection) -> None:
        install_dbmirror2(connection)
        connection.execute(
            "CREATE TRIGGER reptg2_thing AFTER INSERT OR DELETE OR UPDATE ON musicbrainz.thing "
            "FOR EACH ROW EXECUTE PROCEDURE dbmirror2.recordchange()"
        )

    ours = log(install)
    assert ours == log(theirs)
    assert len(ours) > 20


def _random(change: Change) -> str:
    row = change.new or change.old or {}
    return str(row.get("gid", "none"))
