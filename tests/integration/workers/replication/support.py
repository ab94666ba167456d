"""Packets as MusicBrainz makes them, and whether two databases are equal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from workers.replication.apply.source import PacketSource, open_source
from workers.replication.packet import names
from workers.replication.packet.archive import PacketWriter

Connection = psycopg.Connection[Any]

_TABLES = {
    names.PENDING_DATA: "SELECT seqid, tablename, op, xid, olddata, newdata, NULL, NULL FROM dbmirror2.pending_data "
    "WHERE tablename NOT IN ('musicbrainz.editor', 'musicbrainz.recording_first_release_date')",
    names.PENDING_KEYS: "SELECT format('%I.%I', n.nspname, c.relname), array_agg(a.attname::text ORDER BY k.place) "
    "FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (number, place) "
    "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number WHERE i.indisprimary "
    "AND format('%I.%I', n.nspname, c.relname) IN (SELECT tablename FROM dbmirror2.pending_data) GROUP BY 1",
    names.PENDING_TS: "SELECT xid, ts FROM dbmirror2.pending_ts",
}


def export(master: Connection, folder: Path, *, order: str = "") -> PacketSource:
    """What is pending on a master becomes its next packet, unordered unless an order is given."""
    row = master.execute(
        "UPDATE musicbrainz.replication_control SET last_replication_date = now(), "
        "current_replication_sequence = coalesce(current_replication_sequence, 0) + 1 "
        "RETURNING current_replication_sequence, current_schema_sequence, now()"
    ).fetchone()
    assert row is not None
    number, schema, now = row
    path = folder / names.packet_name(number, 2)
    members: dict[str, bytes] = {
        names.TIMESTAMP: f"{now}\n".encode(),
        names.REPLICATION_SEQUENCE: f"{number}\n".encode(),
        names.SCHEMA_SEQUENCE: f"{schema}\n".encode(),
        names.DBMIRROR_VERSION: b"2\n",
    }
    for name, query in _TABLES.items():
        ordered = query + (f" ORDER BY {order}" if name == names.PENDING_DATA and order else "")
        with master.cursor().copy(f"COPY ({ordered}) TO STDOUT") as copy:
            members[name] = b"".join(bytes(piece) for piece in copy)
    master.execute("TRUNCATE dbmirror2.pending_data, dbmirror2.pending_ts")
    write(path, members, now)
    return open_source(path)


def write(path: Path, members: Mapping[str, bytes], now: Any) -> None:
    with path.open("wb") as target, PacketWriter(target, modified=now) as writer:
        for name, content in members.items():
            writer.add(name, content)


def contents(connection: Connection) -> dict[str, str]:
    """A digest of the rows of each table that has any, of those that a mirror has like its master, also those that
    its own triggers keep."""
    tables = connection.execute(
        "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        # Most tables of the sample never had a row: planning to read them all takes half a second.
        "WHERE (c.relkind = 'r' AND pg_relation_size(c.oid) > 0 OR c.relkind = 'p') "
        "AND NOT c.relispartition AND n.nspname = ANY (%s) "
        "AND (c.relname !~ '^(edit|vote|editor|autoeditor|application|unreferenced_row_log|deleted_entity|old_editor)' "
        "OR c.relname = 'editor_collection_type') AND c.relname !~ '(_raw|_pending_update|tag_relation)$'",
        (["musicbrainz", "cover_art_archive", "event_art_archive", "documentation", "statistics", "wikidocs"],),
    ).fetchall()
    connection.execute("SET datestyle = ISO")
    query = " UNION ALL ".join(
        f"SELECT '{table}', md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) "
        f"FROM {table} t HAVING count(*) > 0"
        for (table,) in tables
    )
    return dict(connection.execute(query).fetchall())


def differing(one: Connection, other: Connection) -> list[str]:
    """The tables whose rows are not the same."""
    here, there = contents(one), contents(other)
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
