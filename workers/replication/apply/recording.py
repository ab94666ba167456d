"""The events of a packet: written in the transaction that applies it, published by the bridge."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import LiteralString

from events.derivation.adapters import PostgresResolver
from events.derivation.core import Deriver
from events.ledger.collecting import Tasks
from events.log import service as event_log
from events.sql import queries
from schemas.envelope import Draft
from workers.replication.apply.adapters import Connection


class Recorder:
    """Derives and keeps events while the packet is applied, and puts them into the log at its end: when a transaction
    began is the last thing that a packet tells."""

    def __init__(self, connection: Connection, source: str) -> None:
        self._connection = connection
        self._source = source
        self._resolver = PostgresResolver(connection)
        # Nobody else appends on a mirror; if somebody did, `advance` would fail.
        self._after = event_log.head(connection).position
        self._last = self._after
        self._tasks = Tasks()
        connection.execute(_sql("make_drafts"))

    def derive(self, deriver: Deriver, xids: Iterable[int]) -> None:
        """The events of complete transactions, whose changes were made."""
        self._keep(deriver.stream(xids, self._resolver))

    def finish(self, last: Draft, times: Sequence[bytes]) -> int:
        """Everything into the log, `last` behind it, with the times from `times`; how many events it is."""
        self._connection.execute(_sql("make_times"))
        if times:
            with self._connection.cursor().copy(_sql("fill_times")) as copy:
                for piece in times:
                    copy.write(piece)
        self._keep([last])
        self._connection.execute(_sql("log_drafts"))
        event_log.advance(self._connection, self._last, after=self._after)
        self._tasks.write(self._connection)()
        self._connection.execute(_sql("wake"))
        return self._last - self._after

    def _keep(self, drafts: Iterable[Draft]) -> None:
        # The first is derived before the COPY begins: the resolver asks on the same connection.
        rest = iter(drafts)
        first = next(rest, None)
        if first is None:
            return
        with self._connection.cursor().copy(_sql("fill_drafts")) as copy:
            for row, draft in event_log.rows_of(
                chain([first], rest), source=self._source, after=self._last, recorded_at=datetime.now(UTC)
            ):
                copy.write_row(row)
                self._last = row[0]
                self._tasks.add(draft.name, self._last)


def _sql(name: str) -> LiteralString:
    return queries("workers.replication.apply", "recording.sql")[name]
