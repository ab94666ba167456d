"""The events of a packet: written in the transaction that applies it, published by the bridge."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import LiteralString

from events.derivation.adapters import PostgresResolver
from events.derivation.core import Deriver
from events.ledger.collecting import Tasks
from events.log import service as event_log
from events.sql import queries
from schemas.envelope import Draft
from workers.replication.apply.adapters import Connection

# Of a COPY's text at once.
_PIECE_ROWS = 500
# Batches whose events are being written down.
_WAITING = 2


class Recorder:
    """Derives and keeps events while the packet is applied, and puts them into the log at its end: when a transaction
    began is the last thing that a packet tells.

    Owners and MBIDs are looked up at once; the rest is written down in a thread, while the database has other work.
    """

    def __init__(self, connection: Connection, source: str) -> None:
        self._connection = connection
        self._source = source
        self._resolver = PostgresResolver(connection)
        # Nobody else appends on a mirror; if somebody did, `advance` would fail.
        self._after = event_log.head(connection).position
        # These two are the thread's.
        self._last = self._after
        self._tasks = Tasks()
        self._thread = ThreadPoolExecutor(1, "events")
        self._made: deque[Future[list[bytes]]] = deque()
        connection.execute(_sql("make_drafts"))

    def derive(self, deriver: Deriver, xids: Iterable[int]) -> None:
        """The events of complete transactions, whose changes were made."""
        self._made.append(self._thread.submit(self._write, deriver.stream(xids, self._resolver)))
        while self._made and (self._made[0].done() or len(self._made) > _WAITING):
            self._keep(self._made.popleft().result())

    def finish(self, last: Draft, times: Sequence[bytes]) -> int:
        """Everything into the log, `last` behind it, with the times from `times`; how many events it is."""
        self._connection.execute(_sql("make_times"))
        if times:
            with self._connection.cursor().copy(_sql("fill_times")) as copy:
                for piece in times:
                    copy.write(piece)
        while self._made:
            self._keep(self._made.popleft().result())
        self._keep(self._write([last]))
        self._connection.execute(_sql("log_drafts"))
        event_log.advance(self._connection, self._last, after=self._after)
        self._tasks.write(self._connection)()
        self._connection.execute(_sql("wake"))
        return self._last - self._after

    def close(self) -> None:
        """End the thread, whatever it has still to do."""
        for future in self._made:
            future.cancel()
        self._thread.shutdown()

    def _write(self, drafts: Iterable[Draft]) -> list[bytes]:
        """As text of COPY, in pieces."""
        pieces: list[bytes] = []
        lines: list[str] = []
        rows = event_log.rows_of(drafts, source=self._source, after=self._last, recorded_at=datetime.now(UTC))
        for row, draft in rows:
            self._last = row[0]
            self._tasks.add(draft.name, self._last)
            text = "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n" % row  # noqa: UP031 (half the time of format)
            # Nothing in an event has a tab or the end of a line: JSON writes them with a backslash.
            lines.append(text.replace("\\", "\\\\") if "\\" in text else text)
            if len(lines) >= _PIECE_ROWS:
                pieces.append("".join(lines).encode())
                lines.clear()
        pieces.append("".join(lines).encode())
        return pieces

    def _keep(self, pieces: Sequence[bytes]) -> None:
        if not any(pieces):
            return
        with self._connection.cursor().copy(_sql("fill_drafts")) as copy:
            for piece in pieces:
                copy.write(piece)


def _sql(name: str) -> LiteralString:
    return queries("workers.replication.apply", "recording.sql")[name]
