"""A master with a history and a mirror that has not seen it yet: what the benchmarks of replication have in common."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

import ops.stack
from ops.stack import Stack
from ops.stack.schema import make_mirror
from producers.capture.service import install
from tests.benchmarks.harness import say
from workers.replication.packet import names
from workers.replication.packet.archive import PacketWriter

MASTER, MIRROR = "master", "mirror"

# The same rows on both; the ids begin where the sample data are far below.
_FIRST = 10_000_000
_ROWS = """
SET session_replication_role = replica;
INSERT INTO artist (id, gid, name, sort_name, begin_date_year, begin_date_month, type, area, comment, last_updated)
SELECT {first} + i, md5('artist' || i)::uuid, 'Artist number ' || i, 'number ' || i || ', Artist', 1900 + i % 120,
       1 + i % 12, 1 + i % 2, NULL, 'a "comment" on ' || i, '2020-01-01 00:00:00+00' FROM generate_series(1, {n}) i;
INSERT INTO artist_credit (id, name, artist_count, gid, created)
SELECT {first} + i, 'Artist number ' || i, 1, md5('credit' || i)::uuid, '2020-01-01 00:00:00+00'
FROM generate_series(1, {n}) i;
INSERT INTO artist_alias (id, artist, name, sort_name, type, last_updated)
SELECT {first} + i, {first} + i, 'Alias of ' || i, 'Alias of ' || i, NULL, '2020-01-01 00:00:00+00'
FROM generate_series(1, {n}) i;
INSERT INTO recording (id, gid, name, artist_credit, length, comment, last_updated)
SELECT {first} + i, md5('recording' || i)::uuid, 'Recording number ' || i, {first} + 1 + i % {n},
       1000 * (1 + i % 400), '', '2020-01-01 00:00:00+00' FROM generate_series(1, 2 * {n}) i;
INSERT INTO release_group (id, gid, name, artist_credit, type, last_updated)
SELECT {first} + i, md5('group' || i)::uuid, 'Group number ' || i, {first} + 1 + i % {n}, 1, '2020-01-01 00:00:00+00'
FROM generate_series(1, {n} / 10) i;
INSERT INTO release (id, gid, name, artist_credit, release_group, status, language, last_updated)
SELECT {first} + i, md5('release' || i)::uuid, 'Release number ' || i, {first} + 1 + i % {n}, {first} + i, 1, 120,
       '2020-01-01 00:00:00+00' FROM generate_series(1, {n} / 10) i;
INSERT INTO medium (id, gid, release, position, format, name, track_count, last_updated)
SELECT {first} + i, md5('medium' || i)::uuid, {first} + i, 1, 1, '', 20, '2020-01-01 00:00:00+00'
FROM generate_series(1, {n} / 10) i;
INSERT INTO track (id, gid, recording, medium, position, number, name, artist_credit, length, last_updated)
SELECT {first} + i, md5('track' || i)::uuid, {first} + i, {first} + 1 + (i - 1) / 20, 1 + (i - 1) % 20,
       (1 + (i - 1) % 20)::text, 'Track ' || i, {first} + 1 + i % {n}, 1000 * (1 + i % 400), '2020-01-01 00:00:00+00'
FROM generate_series(1, 2 * {n}) i;
INSERT INTO url (id, gid, url, last_updated)
SELECT {first} + i, md5('url' || i)::uuid, 'https://example.org/' || i, '2020-01-01 00:00:00+00'
FROM generate_series(1, {n}) i;
INSERT INTO l_artist_url (id, link, entity0, entity1, last_updated)
SELECT {first} + i, (SELECT min(id) FROM link), {first} + i, {first} + i, '2020-01-01 00:00:00+00'
FROM generate_series(1, {n}) i;
SET session_replication_role = origin;
"""
# A history in transactions of a few rows: inserts, updates, deletes, and several changes of one row.
_HISTORY = """
DO $do$
DECLARE
    step integer := {n} / {transactions};
BEGIN
    FOR t IN 0..{transactions} - 1 LOOP
        UPDATE artist SET name = name || ' (renamed)', comment = 'changed in ' || t
        WHERE id > {first} + t * step AND id <= {first} + (t + 1) * step;
        UPDATE recording SET length = length + 1000, name = name || '!'
        WHERE id > {first} + t * step AND id <= {first} + (t + 1) * step;
        INSERT INTO artist_alias (id, artist, name, sort_name, type)
        SELECT {first} + {n} + i, {first} + i, 'Another alias of ' || i, 'Another alias of ' || i, NULL
        FROM generate_series(t * step + 1, t * step + step / 2) i;
        DELETE FROM artist_alias WHERE id > {first} + t * step AND id <= {first} + t * step + step / 2;
        UPDATE track SET name = name || ' (live)'
        WHERE id > {first} + t * step AND id <= {first} + t * step + step / 2;
        INSERT INTO url (id, gid, url)
        SELECT {first} + {n} + i, md5('newurl' || i)::uuid, 'https://example.org/new/' || i
        FROM generate_series(t * step + 1, t * step + step / 2) i;
        INSERT INTO l_artist_url (id, link, entity0, entity1)
        SELECT {first} + {n} + i, (SELECT min(id) FROM link), {first} + i, {first} + {n} + i
        FROM generate_series(t * step + 1, t * step + step / 2) i;
        DELETE FROM l_artist_url WHERE id > {first} + t * step AND id <= {first} + t * step + step / 2;
        UPDATE release SET barcode = lpad(id::text, 12, '0')
        WHERE id > {first} + t * (step / 10) AND id <= {first} + (t + 1) * (step / 10);
        COMMIT;
        IF t % 4 = 0 THEN
            UPDATE artist SET name = name || ' again', begin_date_year = 1950
            WHERE id > {first} + t * step AND id <= {first} + (t + 1) * step;
            COMMIT;
        END IF;
    END LOOP;
END
$do$;
"""


def make_databases(stack: Stack, *, rows: int) -> None:
    """MASTER with capture and MIRROR, with the same rows: so many artists, and others in proportion."""
    say(f"Making a master and a mirror with {rows:,} artists.")
    ops.stack.ensure_musicbrainz(stack, database=MASTER, progress=lambda _: None)
    with psycopg.connect(stack.database_url(MASTER), autocommit=True) as connection:
        connection.execute(_filled(_ROWS, n=rows))
        connection.execute("UPDATE replication_control SET current_replication_sequence = 0")
    copy(stack, MASTER, MIRROR)
    with psycopg.connect(stack.database_url(MIRROR), autocommit=True) as connection:
        make_mirror(connection)
        connection.execute("VACUUM ANALYZE")
    install(stack.database_url(MASTER), replication_type="RT_MASTER")


def make_history(stack: Stack, *, rows: int, transactions: int) -> None:
    """Some six changes for each of so many artists, in so many transactions and a quarter more."""
    say(f"Making a history of {rows:,} artists on the master.")
    with psycopg.connect(stack.database_url(MASTER), autocommit=True) as connection:
        connection.execute(_filled(_HISTORY, n=rows, transactions=transactions))


def copy(stack: Stack, source: str, target: str) -> str:
    """A fresh copy of a database; its URL."""
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(target)))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(target), sql.Identifier(source))
        )
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = musicbrainz, public").format(sql.Identifier(target))
        )
        connection.execute("CHECKPOINT")
    return stack.database_url(target)


def _filled(text: str, **values: int) -> str:
    return text.format(first=_FIRST, **values)


def write_packet(stack: Stack, path: Path) -> int:
    """All that is pending on the master as packet 1; how many changes it has."""
    with psycopg.connect(stack.database_url(MASTER)) as connection, tempfile.TemporaryDirectory() as folder:
        connection.execute(
            "UPDATE replication_control SET current_replication_sequence = 1, last_replication_date = now()"
        )
        (changes,) = connection.execute("SELECT count(*) FROM dbmirror2.pending_data").fetchone() or (0,)
        files = {
            names.PENDING_DATA: "SELECT seqid, tablename, op, xid, olddata, newdata, NULL, NULL "
            "FROM dbmirror2.pending_data WHERE tablename <> 'musicbrainz.recording_first_release_date' ORDER BY seqid",
            names.PENDING_KEYS: "SELECT format('%I.%I', n.nspname, c.relname), array_agg(a.attname) FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) WHERE i.indisprimary "
            "AND format('%I.%I', n.nspname, c.relname) IN (SELECT tablename FROM dbmirror2.pending_data) GROUP BY 1",
            names.PENDING_TS: "SELECT xid, ts FROM dbmirror2.pending_ts ORDER BY xid",
        }
        (now,) = connection.execute("SELECT now()").fetchone() or (None,)
        assert now is not None
        for name, query in files.items():
            file = Path(folder) / Path(name).name
            with file.open("wb") as out, connection.cursor().copy(f"COPY ({query}) TO STDOUT") as rows:
                for row in rows:
                    out.write(row)
        with path.open("wb") as target, PacketWriter(target, modified=now) as writer:
            for name, text in _head(str(now)):
                writer.add(name, text.encode())
            for name in files:
                writer.add_file(name, Path(folder) / Path(name).name)
        connection.commit()
    return int(changes)


def _head(now: str) -> Iterator[tuple[str, str]]:
    yield names.TIMESTAMP, f"{now}\n"
    yield names.REPLICATION_SEQUENCE, "1\n"
    yield names.SCHEMA_SEQUENCE, "31\n"
    yield names.DBMIRROR_VERSION, "2\n"
