"""One tick: what was committed since the last one becomes events in the log and work in the ledger."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypedDict

import orjson
import psycopg
import structlog

from events.derivation.adapters import PostgresResolver
from events.derivation.core import Deriver
from events.ledger.collecting import Tasks, Work
from events.log import service as event_log
from events.log.service import Logged
from events.sql import queries
from events.telemetry import Telemetry
from producers.bridge.core import Extent, Floors, Snapshot, State, WritersAreActiveError, cut
from producers.bridge.reader import Reader, Source
from schemas.capture import RowChange
from schemas.envelope import Draft

log = structlog.get_logger(__name__)

# Up to so many events are inserted one by one, which is quicker than to begin a COPY.
FEW = 20
# More than this is not kept in memory until it is published, but read again from the log.
KEEP = 10_000


@dataclass(slots=True)
class Ticked:
    """What one transaction of a tick wrote. `events` is None when they were too many to keep: they are in the log."""

    first: int
    last: int
    rows: int
    events: list[Logged] | None = field(default_factory=list)
    work: list[Work] = field(default_factory=list)


class Ticker:
    """Ticks on one connection (autocommit, REPEATABLE READ), whose owner leads.

    `keeps_snapshots`: on a master the export needs to know in which tick a transaction was found.
    `alive` is called between exchanges with the server, so that only a silent one counts as gone, not a large batch.
    """

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        *,
        source: str,
        sources: Sequence[Source],
        telemetry: Telemetry,
        part_rows: int,
        keeps_snapshots: bool = False,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._source = source
        self._sources = sources
        self._reader = Reader(connection, sources, chunk_rows=part_rows)
        self._telemetry = telemetry
        self._part_rows = part_rows
        self._keeps_snapshots = keeps_snapshots
        self._alive = alive
        self._sql = queries("producers.bridge")
        # One for the life of the connection: after an error in a tick, both are gone.
        self._deriver = Deriver(source)
        self._underived: dict[str, int] = {}
        self.state = self._load()
        self.looked = self.state.snapshot
        # Nobody else appends where a bridge ticks; if somebody did, the tick would fail.
        self._position = event_log.head(connection).position

    def tick(self) -> Iterator[Ticked]:
        """Do what is there: nothing, one transaction, or for a large batch several. Each is committed when it comes."""
        if self.state.batch is None and not (yield from self._small()):
            return
        yield from self._large()

    def reset(self) -> Iterator[Ticked]:
        """After a restore: what came with it from a cluster with higher transaction ids becomes events, then it is now.

        Raises WritersAreActiveError, as nobody could tell their rows from those.
        """
        with self._connection.transaction():
            row = self._connection.execute(self._sql["here"]).fetchone()
            assert row is not None
            now = Snapshot.parse(row[0]).bounded(row[3])
        if now.xip:
            raise WritersAreActiveError(
                f"{len(now.xip)} transactions are writing to this database. Stop who writes, and reset again."
            )
        for source in self._sources:
            with self._connection.transaction():
                rows = self._connection.execute(self._sql[f"{source}_future"], {"xmax": now.xmax + 1}).fetchall()
            for part in cut((Extent(*row) for row in rows), self._part_rows):
                with self._connection.transaction():
                    ticked, work = self._write(self._derive(self._reader.part(source, part)), part.rows, lambda: None)
                    ticked.work = work()
                yield ticked
        with self._connection.transaction():
            self._complete(State(now, Floors(row[1], row[2])))

    def _load(self) -> State:
        row = self._connection.execute(self._sql["state"]).fetchone()
        if row is None:
            raise LookupError("mbevents.tick is empty")
        return State.from_json(row[0])

    def _save(self, state: State) -> None:
        # Two leaders cannot be; if they were, this row would make one of them fail.
        self._connection.execute(self._sql["save"], {"state": orjson.dumps(state.to_json()).decode()})
        self.state = state

    def _complete(self, state: State) -> None:
        """Save the end of a tick; on a master also its snapshot."""
        if self._keeps_snapshots:
            bounds = {"until": state.snapshot.xmax, "running": sorted(state.snapshot.xip)}
            self._connection.execute(self._sql["keep_snapshot"], bounds)
        self._save(state)

    def _small(self) -> Generator[Ticked, None, bool]:
        """The usual tick, in one transaction. True when the batch is too large for that."""
        state = self.state
        ticked = None
        # Two round trips for a few changes: to look, and to write and commit. A COPY cannot travel in a pipeline, and
        # psycopg's transaction() would not let us leave it in between. After an error the connection is given up.
        with ExitStack() as together:
            together.enter_context(self._connection.pipeline())
            self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            look = self._reader.look(state)
            state.check(look.snapshot)
            self.looked = look.snapshot
            if look.bounded is not None and look.changes is None:
                self._save(state.begin(look.bounded, look.floors))
            elif look.bounded is not None:
                ticked, work = self._write(self._derive([look.changes or []]), len(look.changes or []), together.close)
                self._complete(state.after(look.bounded, look.floors))
            self._connection.execute("COMMIT")
        if ticked is not None:
            ticked.work = work()
            yield ticked
        return look.changes is None

    def _large(self) -> Iterator[Ticked]:
        for source in self._sources:
            yield from self._drain(source)
        batch = self.state.batch
        assert batch is not None
        with self._connection.transaction():
            self._complete(self.state.after(batch.until, batch.floors))
        self.looked = batch.until

    def _drain(self, source: Source) -> Iterator[Ticked]:
        with self._connection.transaction():
            parts = cut(self._reader.extents(source, self.state), self._part_rows)
        log.info("large_batch", source=source, parts=len(parts), rows=sum(part.rows for part in parts))
        for part in parts:
            assert self.state.batch is not None
            with self._connection.transaction():
                ticked, work = self._write(self._derive(self._reader.part(source, part)), part.rows, lambda: None)
                ticked.work = work()
                done = self.state.batch.done._replace(**{source: part.last})
                self._save(self.state.progress(done))
            yield ticked

    def _derive(self, pieces: Iterable[list[RowChange]]) -> Iterator[Draft]:
        xids: dict[int, None] = {}
        for changes in pieces:
            self._alive()
            self._deriver.add(changes)
            for change in changes:
                xids[change.xid] = None
                if change.table == "outbox.truncate":
                    self._tell_truncate(change)
        yield from self._deriver.stream(xids, PostgresResolver(self._connection))
        self._tell_underived()

    def _tell_underived(self) -> None:
        """What no event tells of: the schema is newer than the map, or nobody knows the MBID any more."""
        deriver = self._deriver
        counts = {
            "unknown_table": sum(deriver.unknown_tables.values()),
            "unreadable": sum(deriver.unreadable.values()),
            "no_mbid": deriver.unresolved,
        }
        for reason, count in counts.items():
            more = count - self._underived.get(reason, 0)
            if more:
                self._telemetry.count("mbevents_underived_total", more, reason=reason)
                tables = sorted(deriver.unknown_tables | deriver.unreadable)
                log.error("changes_without_event", reason=reason, changes=more, tables=tables)
        self._underived = counts

    def _tell_truncate(self, change: RowChange) -> None:
        self._telemetry.count("mbevents_truncates_total")
        log.error("table_truncated", table=(change.old or change.new or {}).get("table"), xid=change.xid)

    def _write(
        self, drafts: Iterator[Draft], rows: int, end_pipeline: Callable[[], None]
    ) -> tuple[Ticked, Callable[[], list[Work]]]:
        """Append and add tasks; the second tells the work, and in a pipeline is to be asked after its end."""
        # The first ones are derived before the COPY begins: the resolver asks on the same connection.
        first = list(itertools.islice(drafts, FEW + 1))
        after = self._position
        ticked = Ticked(after + 1, after, rows)
        if not first:
            return ticked, list
        tasks = Tasks()
        counts: dict[str, int] = defaultdict(int)
        for logged in self._append(first, drafts, after, end_pipeline):
            ticked.last = logged.position
            if logged.position % 1_000 == 0:
                self._alive()
            counts[logged.name] += 1
            tasks.add(logged.name, logged.position)
            if ticked.events is not None:
                ticked.events.append(logged)
                if len(ticked.events) > KEEP:
                    ticked.events = None
        event_log.advance(self._connection, ticked.last, after=after)
        work = tasks.write(self._connection)
        self._position = ticked.last
        for name, count in counts.items():
            self._telemetry.count("mbevents_events_total", count, type=name)
        return ticked, work

    def _append(
        self, first: list[Draft], others: Iterator[Draft], after: int, end_pipeline: Callable[[], None]
    ) -> Iterable[Logged]:
        where: _Where = {"source": self._source, "after": after, "recorded_at": datetime.now(UTC)}
        if len(first) <= FEW:
            return event_log.append_few(self._connection, first, **where)
        end_pipeline()
        return event_log.append(self._connection, itertools.chain(first, others), **where)


class _Where(TypedDict):
    source: str
    after: int
    recorded_at: datetime
