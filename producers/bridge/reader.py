"""Reads captured rows of a batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import orjson
import psycopg

from events.sql import queries
from producers.bridge.core import ZERO, Extent, Floors, Part, Snapshot, State
from schemas.capture import RowChange

Source = Literal["pending", "outbox"]
_BEGINNING = "1970-01-01T00:00:00Z"


class Look(NamedTuple):
    """What a tick sees at first. `bounded` is None when there is nothing; `changes` when the batch is large.

    `snapshot` is the transaction's, `bounded` the same up to an id that was taken after `floors` were read.
    """

    snapshot: Snapshot
    bounded: Snapshot | None
    floors: Floors
    changes: list[RowChange] | None


class Reader:
    """Works in the caller's transaction, which must be REPEATABLE READ. `sources` are both, or none on a mirror;
    `chunk_rows` is what fits into memory at once, and the size from which a batch is large."""

    def __init__(self, connection: "psycopg.Connection[Any]", sources: Sequence[Source], *, chunk_rows: int) -> None:
        self._connection = connection
        self._sources = sources
        self._chunk_rows = chunk_rows
        self._sql = queries("producers.bridge")

    def look(self, state: State) -> Look:
        """The transaction's snapshot and, unless it is large, the whole batch behind `state`, in one round trip."""
        if not self._sources:
            return Look(self._snapshot(), None, ZERO, [])
        low, ended = state.floors, list[int]()
        if state.snapshot.xip:
            # Which of them have ended decides where to read from.
            now = self._snapshot()
            low, ended = state.low(now), state.ended(now)
        bounds = {
            "low_pending": low.pending,
            "low_outbox": low.outbox,
            "xmax": state.snapshot.xmax,
            "ended": ended,
            "limit": self._chunk_rows,
        }
        with self._connection.pipeline():
            looked = self._connection.execute(self._sql["look"], bounds)
            batch = self._connection.execute(self._sql["batch"], bounds)
            ((text, pending, outbox, taken),) = looked.fetchall()
            snapshot, floors = Snapshot.parse(text), Floors(pending, outbox)
            if taken is None:
                return Look(snapshot, None, floors, [])
            rows = batch.fetchall()
        # By source; inside of one they come in order.
        rows.sort(key=itemgetter(0))
        replicated = sum(row[0] for row in rows)
        bounded = snapshot.bounded(taken)
        if max(replicated, len(rows) - replicated) >= self._chunk_rows:
            return Look(snapshot, bounded, floors, None)
        return Look(snapshot, bounded, floors, list(_changes(row[1:] for row in rows)))

    def extents(self, source: Source, state: State) -> list[Extent]:
        """The transactions of a large batch that are not done yet."""
        assert state.batch is not None
        until = state.batch.until
        parameters = {
            "low": getattr(state.low(until), source),
            "xmax": state.snapshot.xmax,
            "ended": state.ended(until),
            "until": until.xmax,
            "running": sorted(until.xip),
            "done": getattr(state.batch.done, source),
        }
        return [Extent(*row) for row in self._connection.execute(self._sql[f"{source}_extents"], parameters).fetchall()]

    def part(self, source: Source, part: Part) -> Iterator[list[RowChange]]:
        """The rows of whole transactions, in pieces that fit into memory."""
        times: Mapping[int, datetime] | None = None
        xids = list(part.xids)
        if source == "pending":
            times = dict(self._connection.execute(self._sql["times_part"], {"xids": xids}).fetchall())
        after = part.first - 1
        while True:
            bounds = {"after": after, "last": part.last, "xids": xids, "limit": self._chunk_rows}
            rows = self._connection.execute(self._sql[f"{source}_part"], bounds).fetchall()
            if rows:
                yield list(_changes(rows, times))
                after = rows[-1][0]
            if len(rows) < self._chunk_rows:
                return

    def _snapshot(self) -> Snapshot:
        row = self._connection.execute(self._sql["snapshot"]).fetchone()
        assert row is not None
        return Snapshot.parse(row[0])


def _changes(rows: Iterable[tuple[Any, ...]], times: Mapping[int, datetime] | None = None) -> Iterator[RowChange]:
    """`times` by transaction, where the rows do not bring their own."""
    loads = orjson.loads
    texts: dict[int, str] = {}
    for row in rows:
        xid = row[1]
        time = texts.get(xid)
        if time is None:
            # One of a foreign capture may have none.
            time = texts[xid] = _rfc3339(row[6] if times is None else times.get(xid))
        yield RowChange(
            row[0],
            xid,
            row[2],
            row[3],
            None if row[4] is None else loads(row[4]),
            None if row[5] is None else loads(row[5]),
            time,
        )


def _rfc3339(time: datetime | None) -> str:
    return _BEGINNING if time is None else time.isoformat().replace("+00:00", "Z")
