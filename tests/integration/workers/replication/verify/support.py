"""A master and its mirror, with an export and an application as simple as can be."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from workers.replication.verify.service import Options, Report, compare, compare_with_master, make_digest

Connection = psycopg.Connection[tuple[Any, ...]]
START = 100


class Change(NamedTuple):
    table: str
    keys: list[str]
    old: str | None
    new: str | None


def connect(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True)


def begin_at(connection: Connection, sequence: int = START) -> None:
    """Give a database a replication sequence, of which no packet tells."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("DELETE FROM musicbrainz.replication_control")
        connection.execute(
            "INSERT INTO musicbrainz.replication_control VALUES (1, 31, %s, '2026-01-01 00:00:00+00')", (sequence,)
        )


def export(master: Connection, pause: str = "") -> list[Change]:
    """What is pending becomes a packet: it is taken out as the sequence advances, which is the packet's last change."""
    with master.transaction():
        master.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        rows = master.execute(
            "WITH gone AS (DELETE FROM dbmirror2.pending_data RETURNING *) "
            "SELECT seqid, tablename, olddata::text, newdata::text, ("
            "  SELECT array_agg(a.attname::text ORDER BY k.place) "
            "  FROM pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY k (attnum, place), pg_attribute a "
            "  WHERE i.indrelid = tablename::regclass AND i.indisprimary AND a.attrelid = i.indrelid "
            "  AND a.attnum = k.attnum), max(seqid) OVER (PARTITION BY xid) FROM gone"
        ).fetchall()
        rows.sort(key=lambda row: (row[5], row[0]))
        if pause:
            master.execute(pause.encode())
        master.execute(
            "UPDATE musicbrainz.replication_control "
            "SET current_replication_sequence = current_replication_sequence + 1, last_replication_date = now()"
        )
        last = master.execute(
            "DELETE FROM dbmirror2.pending_data WHERE xid = txid_current() "
            "RETURNING tablename, ARRAY['id'], olddata::text, newdata::text"
        ).fetchall()
    return [Change(row[1], row[4], row[2], row[3]) for row in rows if row[1] != "musicbrainz.editor"] + [
        Change(*row) for row in last
    ]


def apply(mirror: Connection, packet: list[Change]) -> None:
    """Change by change, in one transaction."""
    with mirror.transaction():
        mirror.execute("SET LOCAL session_replication_role = replica")
        for change in packet:
            table = sql.SQL(change.table)
            same = sql.SQL(" AND ").join(sql.SQL("t.{0} = r.{0}").format(sql.Identifier(key)) for key in change.keys)
            if change.old is not None:
                done = mirror.execute(
                    sql.SQL("DELETE FROM {0} t USING json_populate_record(NULL::{0}, %s) r WHERE {1}").format(
                        table, same
                    ),
                    (change.old,),
                )
                assert done.rowcount == 1, change
            if change.new is not None:
                mirror.execute(
                    sql.SQL("INSERT INTO {0} SELECT * FROM json_populate_record(NULL::{0}, %s)").format(table),
                    (change.new,),
                )


def unseen(connection: Connection, statement: str) -> None:
    """Change rows without triggers: as damage would."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(statement.encode())


def sequence(connection: Connection) -> int:
    row = connection.execute("SELECT current_replication_sequence FROM musicbrainz.replication_control").fetchone()
    assert row is not None
    return int(row[0])


# A mirror has neither foreign keys nor a master's triggers.
AS_A_MIRROR = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT conrelid::regclass AS of, conname AS name FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.of, one.name);
    END LOOP;
    FOR one IN SELECT tgrelid::regclass AS of, tgname AS name FROM pg_trigger WHERE NOT tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', one.name, one.of);
    END LOOP;
END
$$
"""


@dataclass
class Pair:
    """A master that captures, its mirror with the same rows, and a connection to each."""

    master_url: str
    mirror_url: str
    master: Connection
    mirror: Connection

    def published(self, **options: object) -> Report:
        """The mirror compared with a digest made now."""
        with connect(self.master_url) as connection:
            digest = make_digest(connection, sequence(connection))
        return compare(partial(connect, self.mirror_url), digest, Options(**options))  # type: ignore[arg-type]

    def with_master(self, **options: object) -> Report:
        return compare_with_master(
            partial(connect, self.mirror_url),
            partial(connect, self.master_url),
            Options(**options),  # type: ignore[arg-type]
        )


@contextmanager
def make_pair(master_url: str, mirror_url: str) -> Iterator[Pair]:
    """Of a database that captures, and one of the same rows."""
    with connect(master_url) as master, connect(mirror_url) as mirror:
        mirror.execute(AS_A_MIRROR)
        begin_at(master)
        begin_at(mirror)
        yield Pair(master_url, mirror_url, master, mirror)


# A table with a column of each type that MusicBrainz has, and some more.
EVERY_TYPE = """
CREATE TYPE musicbrainz.presence AS ENUM ('absent', 'present');
CREATE TABLE musicbrainz.thing (
    id integer PRIMARY KEY, gid uuid, place point, box cube, numbers integer[], words text[], letter "char",
    code char(4), small smallint, big bigint, flag boolean, day date, hour time, moment timestamptz, span interval,
    kind musicbrainz.presence,
    about jsonb, raw bytea, ratio double precision, amount numeric, name varchar(30)
);
INSERT INTO musicbrainz.thing
SELECT i, md5(i::text)::uuid, point(0.1 * i, -1e-300), cube(ARRAY[0.1 * i, 1.0 / 3]), ARRAY[i, NULL], ARRAY['a"b', 'ä'],
    chr(65 + i % 26)::"char", 'x', i % 7, 1::bigint << (i % 60), i % 2 = 0, date '2000-02-28' + i, '12:30'::time,
    timestamptz '2026-03-29 00:30Z' + i * interval '1 hour', i * interval '25 hours', 'present',
    jsonb_build_object('b', i, 'a', 'ü'), decode(md5(i::text), 'hex'), i / 7.0::float8, i / 7.0::numeric, 'Ünï ' || i
FROM generate_series(1, 1000) i;
INSERT INTO musicbrainz.thing (id, letter, ratio, moment, day, place) VALUES
    (0, '\\351', '-0', 'infinity', '0044-03-15 BC', '(NaN,Infinity)');
"""
