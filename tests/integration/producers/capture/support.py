"""What capture's tests share: MusicBrainz's own scripts of dbmirror2, and looks at what was captured."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

TRIGGERS = {
    "musicbrainz": "CreateReplicationTriggers2",
    "cover_art_archive": "caa/CreateReplicationTriggers2",
    "event_art_archive": "eaa/CreateReplicationTriggers2",
    "documentation": "documentation/CreateReplicationTriggers2",
    "statistics": "statistics/CreateReplicationTriggers2",
    "wikidocs": "wikidocs/CreateReplicationTriggers2",
}
SANITIZE = "CreateCustomReplicationTriggers2"


class Change(NamedTuple):
    seqid: int
    xid: int
    table: str
    op: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    depth: int


def connect(url: str) -> Connection:
    return psycopg.connect(url, autocommit=True)


def script(name: str) -> str:
    """A file of mbdata's SQL, without psql's commands."""
    spec = find_spec("mbdata")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    text = (Path(spec.submodule_search_locations[0]) / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"^\\.*$", "", text, flags=re.MULTILINE)


def run_scripts(connection: Connection, *names: str) -> None:
    for name in names:
        connection.execute("SET search_path = musicbrainz, public")
        connection.execute(script(name).encode())
    connection.execute("SET search_path = musicbrainz, public")


def install_dbmirror2(connection: Connection, *, sanitize: bool = True) -> None:
    """As MusicBrainz's tools do."""
    connection.execute("CREATE SCHEMA dbmirror2")
    run_scripts(connection, "dbmirror2/dbmirror2", *TRIGGERS.values(), *([SANITIZE] if sanitize else []))


def pending(connection: Connection) -> list[Change]:
    """What was captured, by seqid."""
    rows = connection.execute(
        "SELECT seqid, xid, tablename, op::text, olddata, newdata, trgdepth FROM dbmirror2.pending_data ORDER BY seqid"
    )
    return [Change(*row) for row in rows]


def brief(connection: Connection) -> list[tuple[str, str]]:
    return [(change.table.removeprefix("musicbrainz."), change.op) for change in pending(connection)]


def add_artist(connection: Connection, name: str = "Artist") -> int:
    row = connection.execute(
        "INSERT INTO musicbrainz.artist (gid, name, sort_name, comment) "
        "VALUES (gen_random_uuid(), %s, %s, gen_random_uuid()::text) RETURNING id",
        (name, name),
    ).fetchone()
    assert row is not None
    return int(row[0])


def value(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]
