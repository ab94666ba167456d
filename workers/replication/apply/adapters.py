"""The mirror's side of applying: its catalogue, and the statements that make a set of changes."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.rows import tuple_row

from events.sql import queries
from events.tables import SCHEMAS
from workers.replication.apply.core import NULL, Change, Codec, Column, Table, Work

Connection = psycopg.Connection[Any]

# What JSON may write in other ways than Python would write it back.
_EXACT = frozenset({"numeric", "float4", "float8", "money"})
_PILE_ROWS = 5_000
# A table with at most so many rows for each that is staged is read as a whole.
_MANY = 10


class MismatchError(Exception):
    """A statement changed other rows than it was to change."""


def read_tables(connection: Connection) -> dict[str, Table]:
    """The mirror's tables by name."""
    rows = connection.cursor(row_factory=tuple_row).execute(_sql("tables"), {"schemas": list(SCHEMAS)}).fetchall()
    return {
        name: Table(name, tuple(_column(*each) for each in zip(columns, types, strict=True)), tuple(key), tuples)
        for name, columns, types, key, tuples in rows
    }


def _column(name: str, type_: str) -> Column:
    if type_ in ("json", "jsonb"):
        return Column(name, "json")
    if type_ in ("json[]", "jsonb[]"):
        return Column(name, "json array")
    if type_.endswith("[]"):
        return Column(name, "array")
    return Column(name, "exact" if type_ in _EXACT else "plain")


class Applier:
    """Makes sets of changes in the caller's transaction. Raises MismatchError and what PostgreSQL raises."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._staged: dict[str, str] = {}
        self._many = False

    def delete(self, codec: Codec, work: Work) -> None:
        stage = self._stage(codec)
        keys = _keys(codec)
        self._copy(f"{stage} ({', '.join(keys)})", work.deletes)
        self._expect(codec, len(work.deletes))
        self._exactly(f"DELETE FROM {codec.table.name} t USING {stage} s WHERE {_match(codec)}", len(work.deletes))

    def update(self, codec: Codec, work: Work) -> None:
        stage = self._stage(codec)
        columns = [quoted(column.name) for column in codec.table.columns]
        self._copy(f"{stage} ({', '.join([*columns, *_keys(codec)])})", work.updates)
        settings = ", ".join(f"{column} = s.{column}" for column in columns)
        self._expect(codec, len(work.updates))
        self._exactly(
            f"UPDATE {codec.table.name} t SET {settings} FROM {stage} s WHERE {_match(codec)}", len(work.updates)
        )

    def absent(self, codec: Codec, work: Work) -> None:
        """Rows that came and went cannot have been there before."""
        stage = self._stage(codec)
        self._copy(f"{stage} ({', '.join(_keys(codec))})", work.passing)
        found = f"SELECT FROM {codec.table.name} t JOIN {stage} s ON {_match(codec)} LIMIT 1"
        if self._connection.execute(_trusted(found)).rowcount:
            raise MismatchError

    def insert(self, codec: Codec, work: Work) -> None:
        # Straight in: its unique keys say by themselves when a row is there.
        columns = ", ".join(quoted(column.name) for column in codec.table.columns)
        self._copy(f"{codec.table.name} ({columns})", work.inserts)

    def _expect(self, codec: Codec, rows: int) -> None:
        many = 0 <= codec.table.rows <= rows * _MANY
        if many is not self._many:
            self._connection.execute(_sql("many"), {"many": "on" if many else "off"})
            self._many = many

    def _copy(self, target: str, lines: Sequence[str]) -> None:
        statement = f"COPY {target} FROM STDIN (NULL '{NULL}')"
        with self._connection.cursor().copy(_trusted(statement)) as copy:
            for start in range(0, len(lines), 500):
                copy.write("\n".join(lines[start : start + 500]) + "\n")

    def _exactly(self, statement: str, rows: int) -> None:
        changed = self._connection.execute(_trusted(statement)).rowcount
        if changed != rows:
            raise MismatchError

    def _stage(self, codec: Codec) -> str:
        """The emptied staging table of a table: its columns, and its key once more."""
        name = self._staged.get(codec.table.name)
        if name is None:
            name = self._staged[codec.table.name] = f"pg_temp.mbevents_stage_{len(self._staged)}"
            keys = ", ".join(f"{quoted(key)} AS {place}" for key, place in zip(codec.key, _keys(codec), strict=True))
            columns = ", ".join(quoted(column.name) for column in codec.table.columns)
            self._connection.execute(
                _trusted(
                    f"CREATE TEMP TABLE {name.removeprefix('pg_temp.')} ON COMMIT DROP AS "
                    f"SELECT {columns}, {keys} FROM {codec.table.name} WITH NO DATA"
                )
            )
        else:
            self._connection.execute(_trusted(f"TRUNCATE {name}"))
        return name


class Pile:
    """A packet's changes in a temporary table, to be read in another order than they came in."""

    def __init__(self, connection: Connection, changes: Iterable[list[Change]]) -> None:
        self._connection = connection
        connection.execute(_sql("make_pile"))
        with connection.cursor().copy(_sql("fill_pile")) as copy:
            copy.set_types(["int8", "int8", "text", "text", "bytea", "bytea"])
            for some in changes:
                for change in some:
                    copy.write_row(change)

    def by_number(self) -> Generator[list[Change], None, None]:
        """In the order of their sequence numbers."""
        return self._read("pile_by_number")

    def by_commit(self) -> Generator[list[Change], None, None]:
        """Transaction by transaction, in the order of their commits."""
        return self._read("pile_by_commit")

    def _read(self, query: str) -> Generator[list[Change], None, None]:
        with self._connection.cursor(name="mbevents_pile", row_factory=tuple_row, binary=True) as cursor:
            cursor.itersize = _PILE_ROWS
            cursor.execute(_sql(query))
            while rows := cursor.fetchmany(_PILE_ROWS):
                yield [Change(*row) for row in rows]


@contextmanager
def prepared(connection: Connection) -> Iterator[None]:
    """The transaction's settings, and search indexing off meanwhile: whoever looks from outside sees it on, always."""
    connection.execute(_sql("prepare"))
    connection.execute("SET CONSTRAINTS ALL DEFERRED")
    off = _one(connection, "has_search")[0] and connection.execute(_sql("search_off")).fetchone() is not None
    yield
    if off:
        connection.execute(_sql("search_on"))


def control(connection: Connection) -> tuple[int | None, int | None]:
    """Replication sequence and schema sequence of the mirror."""
    replication, schema = _one(connection, "control")
    return replication, schema


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _keys(codec: Codec) -> list[str]:
    return [f"mbevents_key_{place}" for place in range(len(codec.key))]


def _match(codec: Codec) -> str:
    pairs = zip(codec.key, _keys(codec), strict=True)
    return " AND ".join(f"t.{quoted(column)} = s.{place}" for column, place in pairs)


def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row = connection.cursor(row_factory=tuple_row).execute(_sql(query)).fetchone()
    if row is None:
        raise LookupError(query)
    return row


def _sql(name: str) -> LiteralString:
    return queries("workers.replication.apply")[name]


def _trusted(statement: str) -> LiteralString:
    """Made of what the database's own catalogue names, quoted; never of what a packet says."""
    return statement
