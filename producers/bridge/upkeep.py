"""What the leading bridge does when there is time: trims what is in the log, makes and drops days of the log."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog

from events.ledger import service as ledger
from events.log import partitions
from events.sql import queries
from producers.bridge.core import Snapshot
from producers.bridge.reader import Source

log = structlog.get_logger(__name__)

BITE = 10_000
DAILY_WORK_EVERY = 600.0
DONE_TASKS_KEPT = 24 * 3600.0
# A reader that holds the log for long must not make the bridge wait, nor all other readers behind it.
_SHORT_WAIT = "SET LOCAL lock_timeout = '2s'"


class Upkeep:
    """Works on the bridge's connection, outside of its transactions, in statements that are short each.

    `trimmed` are the tables whose ticked rows nobody else needs: on a master the export needs those of dbmirror2.
    """

    def __init__(
        self, connection: "psycopg.Connection[Any]", *, trimmed: Sequence[Source], retention_days: int
    ) -> None:
        self._connection = connection
        self._trimmed = trimmed
        self._retention_days = retention_days
        self._sql = queries("producers.bridge")
        self._due = 0.0

    def prepare(self) -> None:
        """Before the first tick: today's partition must be there."""
        today = datetime.now(UTC).date()
        if not partitions.there(self._connection, today):
            with self._connection.transaction():
                self._connection.execute(_SHORT_WAIT)
                partitions.ensure(self._connection, today)

    def trim(self, ticked: Snapshot) -> int:
        """Delete a bite of the rows that the last tick saw; how many. 0: there are no more."""
        bounds = {"xmax": ticked.xmax, "running": sorted(ticked.xip), "limit": BITE}
        names = [f"trim_{source}" for source in self._trimmed]
        if "pending" in self._trimmed:
            names.append("trim_times")
        return sum(self._connection.execute(self._sql[name], bounds).rowcount for name in names)

    def daily(self) -> None:
        """Now and then: days ahead, days that expired, old rows of the ledger."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + DAILY_WORK_EVERY
        today = datetime.now(UTC).date()
        try:
            with self._connection.transaction():
                self._connection.execute(_SHORT_WAIT)
                partitions.ensure(self._connection, today)
                dropped = partitions.drop_expired(self._connection, today, retention_days=self._retention_days)
        except psycopg.errors.LockNotAvailable:
            log.warning("event_partitions_are_in_use")
            self._due = time.monotonic() + 30
        else:
            if dropped:
                log.info("event_partitions_dropped", partitions=dropped)
        while ledger.purge(self._connection, DONE_TASKS_KEPT, limit=BITE) >= BITE:
            pass
