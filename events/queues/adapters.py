"""Dead letters in Postgres."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from psycopg.rows import class_row, tuple_row

from events.sql import queries

from .letters import DeadLetter, Filter, NewDeadLetter

# Values that jsonb cannot hold, and more of them or deeper than it can.
_REFUSED = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex)

Connect = Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]


@dataclass(frozen=True, slots=True)
class TakenLetters:
    ids: list[int] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)


class PostgresDeadLetters:
    """`connect` gives a connection for the length of a block, and commits at its end (`pool.connection`)."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sql = queries("events.queues")

    def bury(self, letters: Iterable[NewDeadLetter]) -> None:
        """Keep letters, and mark the ledgered work behind them as dead, all in one transaction."""
        with self._connect() as connection:
            bury(connection, letters)

    def page(self, which: Filter, *, limit: int, below: int | None) -> list[DeadLetter]:
        with self._connect() as connection, connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
            return cursor.execute(self._sql["list"], {**_narrow(which), "limit": limit, "below": below}).fetchall()

    def count(self, which: Filter, *, decoded: bool = False) -> int:
        return self._number("count", {**_narrow(which), "decoded": decoded})

    def show(self, letter_id: int) -> DeadLetter | None:
        with self._connect() as connection, connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
            return cursor.execute(self._sql["show"], {"id": letter_id}).fetchone()

    def newest(self) -> int:
        return self._number("newest", {})

    @contextmanager
    def take_to_retry(self, which: Filter, *, above: int, newest: int, limit: int) -> Iterator[TakenLetters]:
        with self._connect() as connection, connection.transaction():
            taken, tasks = self._take(connection, which, above=above, newest=newest, limit=limit, decoded=True)
            connection.execute(self._sql["tasks_queued"], {"ids": tasks})
            yield taken

    def discard(self, which: Filter, *, above: int, newest: int, limit: int) -> Sequence[int]:
        with self._connect() as connection, connection.transaction():
            taken, tasks = self._take(connection, which, above=above, newest=newest, limit=limit, decoded=False)
            connection.execute(self._sql["tasks_discarded"], {"ids": tasks})
            return taken.ids

    def _take(
        self, connection: "psycopg.Connection[Any]", which: Filter, **bounds: Any
    ) -> tuple[TakenLetters, list[int]]:
        with connection.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(self._sql["take"], {**_narrow(which), **bounds}).fetchall()
        taken = TakenLetters([row[0] for row in rows], [row[2] for row in rows if row[2] is not None])
        return taken, [row[1] for row in rows if row[1] is not None]

    def _number(self, name: str, parameters: dict[str, Any]) -> int:
        with self._connect() as connection, connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(self._sql[name], parameters).fetchone()
            assert row is not None
            return int(row[0])


def bury(connection: "psycopg.Connection[Any]", letters: Iterable[NewDeadLetter]) -> None:
    """Within the caller's transaction, if there is one: keep letters and mark the work behind them as dead."""
    sql = queries("events.queues")
    with connection.transaction():
        for letter in letters:
            fields = asdict(letter)
            try:
                with connection.transaction():
                    connection.execute(sql["bury"], _json_as_text(fields))
            except _REFUSED:
                # Readable to us and not to Postgres: kept as it came. One odd letter must not keep all others out.
                connection.execute(sql["bury"], {**fields, "message": None, "raw": letter.message or letter.raw})
            if letter.task_id is not None:
                connection.execute(sql["task_dead"], fields)


def _json_as_text(fields: dict[str, Any]) -> dict[str, Any]:
    message = fields["message"]
    return {**fields, "message": message.decode() if message is not None else None}


def _narrow(which: Filter) -> dict[str, Any]:
    return {
        "ids": None if which.ids is None else list(which.ids),
        "queue": which.queue,
        "actor": which.actor,
        "died_before": which.died_before,
        "died_after": which.died_after,
    }
