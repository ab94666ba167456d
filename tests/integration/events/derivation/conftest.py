"""A real database whose changes are captured in dbmirror2's tables, by the triggers that MusicBrainz itself uses."""

import re
import uuid
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import sql

from events.catalogue import EVENT_TYPES
from events.derivation.adapters import PostgresResolver
from events.derivation.core import Deriver
from ops.stack import Stack
from ops.stack.schema import use_search_path
from schemas.capture import RowChange
from schemas.envelope import Draft

_PSQL_COMMAND = re.compile(r"^\\.*$", re.MULTILINE)
_SCRIPTS = (
    "dbmirror2/dbmirror2.sql",
    "CreateReplicationTriggers2.sql",
    "caa/CreateReplicationTriggers2.sql",
    "eaa/CreateReplicationTriggers2.sql",
)


class Database:
    """Edits in `connection`; `events` are those of what was committed since it was asked last."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url)
        self._seen = self.run("SELECT coalesce(max(seqid), 0) FROM dbmirror2.pending_data")

    def run(self, statement: str, *parameters: Any) -> Any:
        """The first value of the first row, if there is one."""
        cursor = self.connection.execute(statement.encode(), parameters or None)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def changes(self) -> list[RowChange]:
        rows = self.connection.execute(
            "SELECT seqid, xid, tablename, op::text, olddata, newdata, to_json(ts) #>> '{}' "
            "FROM dbmirror2.pending_data JOIN dbmirror2.pending_ts USING (xid) WHERE seqid > %s ORDER BY seqid",
            (self._seen,),
        ).fetchall()
        self._seen = max([self._seen, *(row[0] for row in rows)])
        return [RowChange(*row) for row in rows]

    def events(self) -> list[Draft]:
        self.connection.commit()
        changes = self.changes()
        deriver = Deriver("https://db.example")
        deriver.add(changes)
        drafts = deriver.drafts(dict.fromkeys(change.xid for change in changes), PostgresResolver(self.connection))
        assert (deriver.unresolved, deriver.unknown_tables, deriver.unreadable) == (0, {}, {})
        for draft in drafts:
            EVENT_TYPES[draft.name].payload.model_validate_json(orjson.dumps(draft.data))
        return drafts

    def told(self) -> set[tuple[str, str]]:
        return {(draft.name, draft.subject) for draft in self.events()}

    def insert(self, table: str, **columns: Any) -> Any:
        """The id of the new row, or its first column where it has none."""
        names = ", ".join(columns)
        places = ", ".join(["%s"] * len(columns))
        has_id = self.run("SELECT count(*) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'id'", table)
        returning = "id" if has_id else next(iter(columns))
        return self.run(f"INSERT INTO {table} ({names}) VALUES ({places}) RETURNING {returning}", *columns.values())

    def mbid(self, table: str, row_id: int) -> str:
        return str(self.run(f"SELECT gid FROM {table} WHERE id = %s", row_id))


@pytest.fixture(scope="package")
def captured(stack: Stack) -> Iterator[str]:
    """URL of a captured database that the tests share: each tells its own events from those before."""
    name = f"derivation_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE musicbrainz").format(sql.Identifier(name)))
    with psycopg.connect(stack.database_url(name), autocommit=True) as connection:
        use_search_path(connection)
    with psycopg.connect(stack.database_url(name), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dbmirror2")
        for path in _SCRIPTS:
            script = files("mbdata").joinpath("sql", path).read_text(encoding="utf-8")
            connection.execute(_PSQL_COMMAND.sub("", script).encode())
            connection.execute("SET search_path = musicbrainz, public")
    yield stack.database_url(name)
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def edited(captured: str) -> Iterator[Database]:
    made = Database(captured)
    yield made
    made.connection.close()


@pytest.fixture(scope="package")
def plain(stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    """The real schema and sample data without any capture, to be read only."""
    # Nobody may be connected to the template while others clone it.
    name = f"derivation_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE musicbrainz").format(sql.Identifier(name)))
    with psycopg.connect(stack.database_url(name), options="-c search_path=musicbrainz,public") as connection:
        connection.read_only = True
        yield connection
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} (FORCE)").format(sql.Identifier(name)))
