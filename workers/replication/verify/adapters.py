"""Databases to compare: what one snapshot shows of them, read on several connections, and the writing of a repair."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from events.errors import MbeventsError, UnreachableError, UsageError
from events.sql import queries
from events.tables import read_tables
from workers.replication.verify.core import (
    UUID_BITS,
    Buckets,
    Column,
    Difference,
    Pages,
    Range,
    Row,
    Shape,
    Total,
    added,
    parts,
    shift_for,
)

Connection = psycopg.Connection[Any]
Progress = Callable[[str], None]

# 128 MB: some parts a second, so that the connections end together and progress is seen.
PAGES_AT_ONCE = 16_384
_BATCH = 500
_EVERYTHING = sql.SQL("true")


_Statement = Literal["delete", "update", "insert"]
_IN_PLACE: Mapping[str, _Statement] = {"extra": "delete", "changed": "update", "missing": "insert"}
# In two passes, for rows that swap a unique value.
_AWAY: Mapping[str, _Statement] = {"extra": "delete", "changed": "delete"}
_BACK: Mapping[str, _Statement] = {"changed": "insert", "missing": "insert"}


class NotComparedError(MbeventsError):
    """Mirror and master could not be compared, so it is not known whether something differs."""

    exit_code = 5


class MovedOnError(NotComparedError):
    """The database is not at the packet that it was expected at."""


class _Job(NamedTuple):
    """A part of a digest: what is found there counts so many times."""

    shape: Shape
    shift: int | None
    times: int
    source: sql.Composable
    pages: int


class Snapshot:
    """A database as it is in one moment. `sequence` is the last packet that is in it; connections are used at once."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        info = connections[0].info
        self.name = f"database {info.dbname} at {info.host or 'the local server'}"
        self._free: SimpleQueue[Connection] = SimpleQueue()
        for connection in connections:
            self._free.put(connection)
        rows = self._ask(_named("sequences"))
        if not rows or rows[0][0] is None:
            raise UsageError(
                f"The {self.name} has no replication sequence (in musicbrainz.replication_control): it neither exports "
                "packets nor applies them, so there is no packet at which to compare it."
            )
        self.sequence, self.schema_sequence = int(rows[0][0]), int(rows[0][1])
        there = self._ask(_named("has_pending"))[0][0]
        # Changes that are in no packet yet, by table.
        self.pending = frozenset(name for (name,) in self._ask(_named("pending"))) if there else frozenset[str]()

    @cached_property
    def identity(self) -> tuple[Any, ...]:
        """The same of the same database only, however it was connected to."""
        return self._ask(_named("identity"))[0]

    @cached_property
    def captures(self) -> bool:
        """Whether packets come from here."""
        return bool(self._ask(_named("captures"))[0][0])

    def shapes(self) -> dict[str, Shape]:
        """The tables that packets carry, by their quoted and qualified names."""
        tables = {table.full: table for table in read_tables(self._connections[0]) if table.in_packets}
        rows = self._ask(_named("columns"), {"tables": list(tables)})
        return {
            full: Shape(
                full, tuple(map(Column, names or (), types or (), foreign or ())), tables[full].primary_key, int(pages)
            )
            for full, pages, names, types, foreign in rows
        }

    def shifts(self, shapes: Iterable[Shape]) -> dict[str, int]:
        """How to make ranges of each table's keys, from its least and greatest."""
        found = {}
        for shape in shapes:
            found[shape.full] = 0
            if shape.key is not None and shape.key.type == "uuid":
                found[shape.full] = shift_for(0, (1 << UUID_BITS) - 1)
            elif shape.key is not None:
                query = _sql("bounds").format(key=_key(shape.key), table=_raw(shape.full))
                ((least, greatest),) = self._ask(query)
                found[shape.full] = 0 if least is None else shift_for(least, greatest)
        return found

    def digests(self, shifts: Mapping[Shape, int | None], progress: Progress | None = None) -> dict[str, Buckets]:
        """The totals of whole tables; one bucket for those without a shift."""
        jobs = [
            _Job(shape, shift, 1, _of_table(shape, _pages(part)), (part.last or shape.pages) - part.first)
            for shape, shift in sorted(shifts.items(), key=lambda each: -each[0].pages)
            for part in parts(shape.pages, PAGES_AT_ONCE)
        ]
        for shape, shift in shifts.items():
            jobs += [_Job(shape, shift, times, source, 0) for times, source in self._undone(shape, _EVERYTHING)]
        found: dict[str, list[tuple[int, Buckets]]] = {shape.full: [] for shape in shifts}
        done, everything = 0, sum(job.pages for job in jobs)
        with self._pool() as pool:
            for job, buckets in zip(
                jobs, pool.map(lambda job: self._totals(job.shape, job.shift, job.source), jobs), strict=True
            ):
                found[job.shape.full].append((job.times, buckets))
                done += job.pages
                if progress is not None:
                    progress(f"{100 * done // max(everything, 1)} % of the {self.name} read")
        return {full: added(each) for full, each in found.items()}

    def totals(self, shape: Shape, shift: int, within: Range) -> Buckets:
        """The totals of a range, by finer ones."""
        return added((times, self._totals(shape, shift, source)) for times, source in self._sources(shape, within))

    def rows(self, shape: Shape, within: Range) -> "Counter[Row]":
        """The rows of a range as text, in the order of the shape's columns."""
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(_column(column.name)) for column in shape.columns)
        found: Counter[Row] = Counter()
        for times, source in self._sources(shape, within):
            for row in self._ask(_sql("rows").format(columns=columns, source=source)):
                found[row] += times
        return +found

    def _sources(self, shape: Shape, within: Range) -> list[tuple[int, sql.Composable]]:
        where = _condition(shape, within)
        return [(1, _of_table(shape, where)), *self._undone(shape, where)]

    def _undone(self, shape: Shape, where: sql.Composable) -> list[tuple[int, sql.Composable]]:
        """Where to find the rows that pending changes took away, and, to take away, those that they brought."""
        if shape.full not in self.pending:
            return []
        parameters = {"table": _raw(shape.full), "name": sql.Literal(shape.full), "condition": where}
        return [(1, _sql("of_old").format(**parameters)), (-1, _sql("of_new").format(**parameters))]

    def _totals(self, shape: Shape, shift: int | None, source: sql.Composable) -> Buckets:
        query = _sql("totals").format(
            shift=sql.Literal(shift or 0),
            key=sql.SQL("0::bigint") if shift is None or shape.key is None else _key(shape.key),
            columns=sql.SQL(", ").join(_binary(column) for column in shape.columns),
            source=source,
        )
        return added((1, {key: Total(rows, int(high), int(low))}) for key, rows, high, low in self._ask(query))

    def _ask(self, query: Any, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        connection = self._free.get()
        try:
            with connection.cursor(row_factory=tuple_row) as cursor:
                return cursor.execute(query, parameters).fetchall()
        except psycopg.ProgrammingError as error:
            # There are two databases: it must be said which of them it is.
            raise NotComparedError(
                f"The {self.name} does not let itself be read: {error.diag.message_primary}. "
                "Nothing was compared. Connect as a role that may read all replicated tables."
            ) from error
        except psycopg.OperationalError as error:
            if not connection.broken:
                raise
            raise UnreachableError(f"The {self.name} does not answer any more. Nothing was compared.") from error
        finally:
            self._free.put(connection)

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """A thread for each connection; when one fails, or we are interrupted, the others' statements are ended."""
        with ThreadPoolExecutor(len(self._connections)) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for connection in self._connections:
                    connection.cancel_safe()
                raise


@contextmanager
def snapshot(connections: Sequence[Connection]) -> Iterator[Snapshot]:
    """One snapshot on all of these connections, which are in no transaction."""
    first, *others = connections
    with ExitStack() as stack:
        for connection in connections:
            stack.enter_context(connection.transaction())
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if others:
            row = first.execute("SELECT pg_export_snapshot()").fetchone()
            assert row is not None
            for connection in others:
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(row[0]))
        for connection in connections:
            connection.execute(_named("settings"))
        yield Snapshot(connections)


def repair(connection: Connection, sequence: int, shape: Shape, differences: Callable[[], Iterable[Difference]]) -> int:
    """Make the rows of a table as they should be, in one transaction, its triggers on; how many were written.

    `differences` are asked for again when changing rows in place meets a unique value that another row still has.
    """
    with connection.transaction():
        connection.execute(_named("settings"))
        # A mirror's triggers need this one. Whoever applies a packet waits for us, or we for it; never for long.
        connection.execute("SET LOCAL search_path = musicbrainz, public")
        connection.execute("SET LOCAL lock_timeout = '10s'")
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
        # First the lock, then the look: a packet that was being applied is then seen, and the next one comes after us.
        connection.execute(_sql("lock").format(table=_raw(shape.full)))
        row = connection.execute(_named("sequences")).fetchone()
        if row is None or row[0] != sequence:
            raise MovedOnError(
                f"Nothing was repaired in {shape.full}: a packet was applied meanwhile, the mirror is at "
                f"{row and row[0]} instead of {sequence}. Stop the sync, and run it again."
            )
        try:
            with connection.transaction():
                return _write(connection, shape, differences(), _IN_PLACE)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation):
            deleted = _write(connection, shape, differences(), _AWAY)
            return max(deleted, _write(connection, shape, differences(), _BACK))


def _write(
    connection: Connection, shape: Shape, differences: Iterable[Difference], how: Mapping[str, _Statement]
) -> int:
    """Write in batches; in each, rows are first deleted, then changed, then inserted."""
    names = [_bare(name) for name in shape.names]
    here = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(_bare(name)) for name in shape.primary_key)
    parts = {
        "table": _raw(shape.full.replace("%", "%%")),
        "columns": sql.SQL(", ").join(names),
        "values": sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        "assignments": sql.SQL(", ").join(sql.SQL("{} = %s").format(name) for name in names),
        "condition": here,
    }
    statements: tuple[_Statement, ...] = ("delete", "update", "insert")
    written = 0
    iterator = iter(differences)
    while batch := list(itertools.islice(iterator, _BATCH)):
        for statement in statements:
            rows = [_values(each, statement) for each in batch if how.get(each.kind) == statement]
            written += _all(connection, shape, _sql(statement).format(**parts), rows)
    return written


def _values(difference: Difference, statement: _Statement) -> list[str | None]:
    row, key = (difference.expected or {}).values(), difference.key.values()
    return {"delete": [*key], "update": [*row, *key], "insert": [*row]}[statement]


def _all(connection: Connection, shape: Shape, statement: sql.Composed, rows: Sequence[Sequence[Any]]) -> int:
    if not rows:
        return 0
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)
        if cursor.rowcount != len(rows):
            raise MbeventsError(
                f"Nothing was repaired in {shape.full}: {len(rows)} rows were to be written, and {cursor.rowcount} "
                "were. Somebody else changes the mirror, or a trigger does."
            )
    return len(rows)


def _named(name: str) -> Any:
    return queries("workers.replication.verify")[name]


def _sql(name: str) -> sql.SQL:
    return sql.SQL(_named(name))


def _raw(full: str) -> sql.SQL:
    """A name that PostgreSQL has quoted itself."""
    return sql.SQL(full)  # from the catalogue, never from a digest


def _bare(name: str) -> sql.SQL:
    """A column in a statement that has parameters."""
    return _raw(sql.Identifier(name).as_string().replace("%", "%%"))


def _column(name: str) -> sql.Composed:
    return sql.SQL("t.{}").format(sql.Identifier(name))


def _binary(column: Column) -> sql.Composed:
    return sql.SQL("{}::text").format(_column(column.name)) if column.foreign else _column(column.name)


def _key(key: Column) -> sql.Composed:
    """The key as a number: of a uuid the first bits, which sort as it does."""
    if key.type == "uuid":
        return sql.SQL("('x' || left({}::text, 8))::bit(32)::bigint").format(_column(key.name))
    return sql.SQL("{}::bigint").format(_column(key.name))


def _of_table(shape: Shape, condition: sql.Composable) -> sql.Composed:
    return _sql("of_table").format(table=_raw(shape.full), condition=condition)


def _pages(part: Pages) -> sql.Composable:
    if part.first == 0 and part.last is None:
        return _EVERYTHING
    condition = sql.SQL("t.ctid >= {}::tid").format(f"({part.first},0)")
    if part.last is None:
        return condition
    return sql.SQL("{} AND t.ctid < {}::tid").format(condition, f"({part.last},0)")


def _condition(shape: Shape, within: Range) -> sql.Composable:
    """The rows of a range, in words that an index of the key serves."""
    key = shape.key
    if key is None or within.low is None or within.high is None:
        return _EVERYTHING
    low: Any = within.low
    high: Any = within.high
    if key.type == "uuid":
        low, high = _uuid(within.low), _uuid(within.high)
    bounds = [(">=", low), ("<", high)]
    return sql.SQL(" AND ").join(
        sql.SQL("{} " + sign + " {}").format(_column(key.name), bound) for sign, bound in bounds if bound is not None
    )


def _uuid(bits: int) -> str | None:
    """The least uuid with these first bits; None above all."""
    return None if bits >> UUID_BITS else f"{bits:08x}-0000-0000-0000-000000000000"
