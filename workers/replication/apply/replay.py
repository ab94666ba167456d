"""Making changes one by one, in the order of commits: where a set of them does not go in, and to name what diverges."""

from collections.abc import Callable, Iterable
from typing import LiteralString

import psycopg
import structlog

from workers.replication.apply.adapters import Connection, quoted
from workers.replication.apply.core import Change, Codec, RowError, Values
from workers.replication.apply.options import Divergence, DivergenceError, OnDivergence
from workers.replication.apply.planning import Tables
from workers.replication.packet.errors import PacketError

log = structlog.get_logger(__name__)

# So many divergences are told one by one; the others are counted.
TOLD = 100


class Replayer:
    """Applies changes in the caller's transaction. Every one must hit exactly one row; what does not is a divergence.

    `fail` raises DivergenceError for the first; `warn` leaves the row as it is; `repair` writes the packet's row.
    """

    def __init__(self, connection: Connection, tables: Tables, *, on_divergence: OnDivergence) -> None:
        self._connection = connection
        self._tables = tables
        self._on_divergence = on_divergence
        self._statements: dict[tuple[str, str], LiteralString] = {}
        self.divergences: list[Divergence] = []
        self.diverged = 0

    def apply(self, changes: Iterable[list[Change]]) -> None:
        """Raises DivergenceError, PacketError."""
        for some in changes:
            for change in some:
                codec = self._tables.codec(change.table)
                if codec is not None:
                    self._one(codec, change)

    def _one(self, codec: Codec, change: Change) -> None:
        try:
            old = None if change.old is None else codec.key_of(codec.old_row(change.old))
            row = None if change.new is None else codec.row(change.new)
            key = old if row is None else codec.key_of(row)
            new = None if row is None else codec.values(row)
        except RowError as error:
            raise PacketError(f"a row of change {change.seqid} of {change.table} {error}") from None
        assert key is not None
        try:
            if new is None:
                self._delete(codec, change, key)
            elif old is None:
                self._insert(codec, change, key, new)
            else:
                self._update(codec, change, old, new)
        except psycopg.errors.UniqueViolation as error:
            # Which of the two is wrong only the master knows.
            difference = (
                f"another row of the mirror has its unique value ({error.diag.message_detail}), which no way of "
                "--on-divergence mends: delete that row, or let `mbevents replication verify --repair` find it"
            )
            raise DivergenceError(Divergence(change.table, _named(codec, key), change.op, difference)) from error
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError) as error:
            raise PacketError(
                f"change {change.seqid} of {change.table} does not fit: {error.diag.message_primary or error}"
            ) from error

    def _insert(self, codec: Codec, change: Change, key: Values, new: Values) -> None:
        if self._run(codec, "insert", new):
            return
        if self._diverges(codec, change, key, "is to be inserted, but is there already"):
            self._run(codec, "update", (*new, *key))

    def _update(self, codec: Codec, change: Change, old: Values, new: Values) -> None:
        if self._run(codec, "update", (*new, *old)):
            return
        if self._diverges(codec, change, old, "is to be updated, but is not there"):
            self._run(codec, "upsert", new)

    def _delete(self, codec: Codec, change: Change, key: Values) -> None:
        if not self._run(codec, "delete", key):
            # Repaired is it by being away.
            self._diverges(codec, change, key, "is to be deleted, but is not there")

    def _diverges(self, codec: Codec, change: Change, key: Values, difference: str) -> bool:
        """Whether to write the packet's row."""
        found = Divergence(change.table, _named(codec, key), change.op, difference)
        if self._on_divergence == "fail":
            raise DivergenceError(found)
        self.diverged += 1
        if len(self.divergences) < TOLD:
            self.divergences.append(found)
            log.warning("mirror_diverges", table=found.table, key=found.key, difference=difference, seqid=change.seqid)
        return self._on_divergence == "repair"

    def _run(self, codec: Codec, kind: str, values: Values) -> int:
        name = codec.table.name
        statement = self._statements.get((name, kind))
        if statement is None:
            statement = self._statements[name, kind] = _STATEMENTS[kind](codec)
        # As text, which PostgreSQL reads as the column's type.
        parameters = [None if value is None else str(value) for value in values]
        rows = self._connection.execute(statement, parameters, prepare=True).rowcount
        if rows > 1:
            raise PacketError(f"the key ({', '.join(codec.key)}) of {name} finds {rows} rows: it is none")
        return rows


def _named(codec: Codec, key: Values) -> str:
    return ", ".join(f"{column}={value}" for column, value in zip(codec.key, key, strict=True))


def _columns(codec: Codec) -> list[str]:
    return [_safe(column.name) for column in codec.table.columns]


def _safe(name: str) -> str:
    return quoted(name).replace("%", "%%")


def _where(codec: Codec) -> str:
    return " AND ".join(f"{_safe(column)} = %s" for column in codec.key)


def _settings(codec: Codec, source: str) -> str:
    return ", ".join(f"{column} = {source.format(column)}" for column in _columns(codec))


def _insert(codec: Codec) -> str:
    columns = _columns(codec)
    key = ", ".join(map(_safe, codec.key))
    return (
        f"INSERT INTO {_table(codec)} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))}) "
        f"ON CONFLICT ({key}) DO "
    )


def _table(codec: Codec) -> str:
    return codec.table.name.replace("%", "%%")


_STATEMENTS: dict[str, Callable[[Codec], str]] = {
    "insert": lambda codec: _insert(codec) + "NOTHING",
    "upsert": lambda codec: _insert(codec) + f"UPDATE SET {_settings(codec, 'excluded.{}')}",
    "update": lambda codec: f"UPDATE {_table(codec)} SET {_settings(codec, '%s')} WHERE {_where(codec)}",
    "delete": lambda codec: f"DELETE FROM {_table(codec)} WHERE {_where(codec)}",
}
