"""The mirror's side of keeping it up to date: the lock, where it is, and what is told of each pass."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from events.errors import UsageError
from events.locks import SYNC_KEY
from events.sql import queries
from workers.replication.apply.adapters import read_tables
from workers.replication.sync.core import Outcome, Pass

Connection = psycopg.Connection[Any]

RUNS_KEPT = 1000


class Mirror:
    """One session of the mirror's database, in autocommit; who has claimed it is the only one that applies packets."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def prepare(self) -> None:
        """Raises UsageError where nothing of ours is installed, or what is installed is for a master."""
        if not self._one("installed")[0]:
            raise UsageError(
                f"The database {self.connection.info.dbname} has no event log of this release. "
                "Run `mbevents db install` with REPLICATION_TYPE=RT_MIRROR; nothing was done."
            )
        if self._one("captures")[0]:
            raise UsageError(
                f"The database {self.connection.info.dbname} captures changes, so it is a master and no mirror: "
                "`mbevents db check` says what is installed. Nothing was done."
            )
        self._one("prepare")

    def claim(self) -> bool:
        return bool(self._one("claim", key=SYNC_KEY)[0])

    def sequence(self) -> int:
        """Raises UsageError where replication cannot begin."""
        found = self._rows("sequence")
        if not found or found[0][0] is None:
            raise UsageError(
                f"The database {self.connection.info.dbname} has no replication sequence, so no packet can follow. "
                "A mirror begins with a full data dump of its master, which says where it is."
            )
        return int(found[0][0])

    def lag(self) -> float | None:
        found: float | None = self._one("lag")[0]
        return found

    def tables(self) -> set[str]:
        return set(read_tables(self.connection))

    def paused(self) -> bool:
        return bool(self._one("paused")[0])

    def pause(self, paused: bool) -> bool:
        """Whether it was not so before."""
        return self.connection.execute(_sql("pause"), {"paused": paused}).rowcount == 1

    def up_to_date(self) -> None:
        self.connection.execute(_sql("up_to_date"))

    def begin_run(self, sequence: int, ago: float = 0.0) -> int:
        """Of a pass that began `ago` seconds before."""
        self.connection.execute(_sql("close_runs"))
        run = int(self._one("begin_run", sequence=sequence, ago=ago)[0])
        self.connection.execute(_sql("trim_runs"), {"id": run, "kept": RUNS_KEPT})
        return run

    def note_run(self, run: int, done: Pass) -> None:
        values = {
            "id": run,
            "sequence": done.last,
            "packets": done.packets,
            "changes": done.changes,
            "one_by_one": done.one_by_one,
            "diverged": done.diverged,
        }
        self.connection.execute(_sql("note_run"), values)

    def end_run(self, run: int, outcome: Outcome, error: str | None = None) -> None:
        self.connection.execute(_sql("end_run"), {"id": run, "outcome": outcome, "error": error})

    def _one(self, name: str, **values: Any) -> tuple[Any, ...]:
        found = self._rows(name, **values)
        if not found:
            raise UsageError(f"The database {self.connection.info.dbname} is not as `mbevents db install` made it.")
        return found[0]

    def _rows(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        return self.connection.cursor(row_factory=tuple_row).execute(_sql(name), values).fetchall()


@contextmanager
def ended_in_time(
    connection: Connection, *, stop: threading.Event, hurry: threading.Event, grace: float
) -> Iterator[threading.Event]:
    """Once `stop` is set, what runs on the connection has `grace` seconds, or until `hurry`; then it is cancelled, as
    often as it takes. The event says whether it was."""
    done, cancelled = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            if not stop.is_set():
                continue
            waited = 0.0
            while waited < grace and not hurry.is_set() and not done.wait(0.1):
                waited += 0.1
            while not done.is_set():
                cancelled.set()
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=2.0)
                done.wait(0.5)

    thread = threading.Thread(target=watch, name="end-in-time", daemon=True)
    thread.start()
    try:
        yield cancelled
    finally:
        done.set()
        thread.join()


def _sql(name: str) -> Any:
    return queries("workers.replication.sync")[name]
