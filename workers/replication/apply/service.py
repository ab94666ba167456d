"""Applying one packet: one transaction, in sets; one by one where sets do not go in."""

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b

import psycopg
import structlog

from events.derivation import entity_map
from events.derivation.core import Deriver
from events.errors import MbeventsError, VersionMismatchError
from schemas.envelope import Draft
from schemas.packet import PacketApplied
from workers.replication.apply.adapters import (
    Applier,
    Connection,
    MismatchError,
    Pile,
    control,
    prepared,
    read_tables,
)
from workers.replication.apply.ahead import ahead
from workers.replication.apply.core import Codec, ContradictionError, ranks
from workers.replication.apply.options import Applied, ApplyOptions, Source
from workers.replication.apply.planning import Chunk, InterleavedError, KeyNeededError, Planner, Tables, UnorderedError
from workers.replication.apply.recording import Recorder
from workers.replication.apply.replay import Replayer
from workers.replication.packet.errors import PacketError

log = structlog.get_logger(__name__)

# Chunks that wait for the database.
AHEAD = 2


class WrongSequenceError(MbeventsError):
    """The mirror is not where the packet begins, or not where it must end."""


def apply_packet(connection: Connection, source: Source, options: ApplyOptions) -> Applied:
    """Make the changes of a packet, all or none, and append their events; the connection is in autocommit.

    Raises WrongSequenceError, VersionMismatchError, DivergenceError, PacketError; then nothing was changed.
    """
    with connection.transaction():
        _check_before(connection, source)
        with prepared(connection), _few_collections():
            applied = _Run(connection, source, options).apply()
        _check_after(connection, source)
    log.info("packet_applied", **{name: value for name, value in applied.to_dict().items() if value})
    return applied


@contextmanager
def _few_collections() -> Iterator[None]:
    """Rows are many small objects without cycles: to look for some again and again costs a tenth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Run:
    """The ways to apply one packet, from the fastest to the surest; each begins from the same savepoint."""

    def __init__(self, connection: Connection, source: Source, options: ApplyOptions) -> None:
        self._connection = connection
        self._source = source
        self._options = options
        self._map = entity_map.load()
        self._tables = read_tables(connection)
        self._applied = Applied(source.number)
        self._whole = False
        self._sorted = False
        self._keys: dict[str, tuple[str, ...]] | None = None

    def apply(self) -> Applied:
        """Raises as apply_packet."""
        while True:
            why = ""
            try:
                with self._connection.transaction():
                    self._in_sets()
            except UnorderedError:
                # What is not sorted is mostly not apart either.
                self._sorted = self._whole = True
            except InterleavedError:
                self._whole = True
            except KeyNeededError:
                self._keys = self._read_keys()
            except MismatchError:
                why = "rows are not there that it changes, or are there that it makes"
            except ContradictionError:
                why = "its changes contradict each other in the order of their numbers"
            except (psycopg.errors.IntegrityError, psycopg.errors.DataError) as error:
                why = error.diag.message_primary or type(error).__name__
            else:
                return self._applied
            if why:
                # Behind the exception: what it holds on to must be gone first.
                return self._one_by_one(why)

    def _read_keys(self) -> dict[str, tuple[str, ...]]:
        for _ in self._source.changes():
            pass
        return dict(self._source.keys)

    def _in_sets(self) -> None:
        tables = self._make_tables()
        changes = self._source.changes()
        # The pile is read on the connection that makes the changes, and closed in the transaction that opened it.
        with self._recording() as (recorder, deriver), ExitStack() as closed:
            if self._sorted:
                changes = Pile(self._connection, changes).by_number()
            closed.enter_context(closing(changes))
            planner = Planner(
                tables, ranks=ranks(self._map), chunk=self._options.chunk, deriver=deriver, whole=self._whole
            )
            chunks = planner.chunks(changes)
            if not self._sorted:
                chunks = ahead(chunks, depth=AHEAD)
            closed.enter_context(closing(chunks))
            applier = Applier(self._connection)
            for chunk in chunks:
                _make(applier, chunk, tables)
                if recorder is not None and chunk.events is not None:
                    recorder.derive(*chunk.events)
            self._check_keys(tables)
            self._done(planner, recorder)

    def _one_by_one(self, why: str) -> Applied:
        log.warning("packet_applied_one_by_one", packet=self._source.number, why=why)
        self._applied.mode, self._applied.why = "one by one", why
        tables = self._make_tables()
        replayer = Replayer(self._connection, tables, on_divergence=self._options.on_divergence)
        pile = Pile(self._connection, self._source.changes())
        self._check_keys(tables)
        with closing(pile.by_commit()) as rows:
            replayer.apply(rows)
        self._applied.diverged, self._applied.divergences = replayer.diverged, replayer.divergences
        with self._recording() as (recorder, deriver), closing(pile.by_number()) as rows:
            planner = Planner(tables, ranks={}, chunk=self._options.chunk, deriver=deriver, whole=True, net=False)
            for chunk in planner.chunks(rows):
                if recorder is not None and chunk.events is not None:
                    recorder.derive(*chunk.events)
            self._done(planner, recorder)
        return self._applied

    def _done(self, planner: Planner, recorder: Recorder | None) -> None:
        applied, counts = self._applied, planner.counts
        applied.changes, applied.skipped = counts.changes, counts.skipped
        known = self._source.transactions
        applied.transactions = counts.transactions if known is None else known
        if recorder is not None:
            applied.events = recorder.finish(self._event(), self._source.times)

    def _event(self) -> Draft:
        number = self._source.number
        now = datetime.now(UTC)
        payload = PacketApplied(
            number=number,
            schema_sequence=self._source.schema_sequence,
            transactions=self._applied.transactions,
            changes=self._applied.changes,
            applied_at=now,
        )
        name, subject = "packet.applied", f"packet/{number}"
        digest = blake2b(f"{self._options.events}|{name}|{number}".encode(), digest_size=16).hexdigest()
        time = now.isoformat().replace("+00:00", "Z")
        # No transaction of the master's: 0 is none.
        return Draft(digest, name, subject, time, 0, payload.model_dump(mode="json"))

    @contextmanager
    def _recording(self) -> Iterator[tuple[Recorder | None, Callable[[], Deriver] | None]]:
        """Who records events, and who derives them, where that is wanted and possible."""
        source = self._options.events
        if source is None:
            yield None, None
            return
        with closing(Recorder(self._connection, source)) as recorder:
            if self._source.texts:
                log.warning("packet_without_old_rows", packet=self._source.number)
                yield recorder, None
            else:
                yield recorder, partial(Deriver, source, self._map)

    def _make_tables(self) -> Tables:
        return Tables(
            self._tables, known=self._map.tables, wanted=self._options.wanted, keys=self._keys, texts=self._source.texts
        )

    def _check_keys(self, tables: Tables) -> None:
        """The packet tells its keys behind its rows. Where it tells none, the mirror's own are right."""
        for name, key in tables.used().items():
            told = self._source.keys.get(name)
            if told is not None and sorted(told) != sorted(key):
                raise PacketError(
                    f"its key of {name} is ({', '.join(told)}), and the mirror's ({', '.join(key)})",
                    packet=str(self._source.number),
                )


def _make(applier: Applier, chunk: Chunk, tables: Tables) -> None:
    """Parts go before what they are parts of, and come after it; in between is freed what is unique."""
    for work in reversed(chunk.work):
        if work.deletes:
            applier.delete(_codec(tables, work.table), work)
    for work in chunk.work:
        if work.updates:
            applier.update(_codec(tables, work.table), work)
    for work in chunk.work:
        if work.passing:
            applier.absent(_codec(tables, work.table), work)
        if work.inserts:
            applier.insert(_codec(tables, work.table), work)


def _codec(tables: Tables, name: str) -> Codec:
    codec = tables.codec(name)
    assert codec is not None
    return codec


def _check_before(connection: Connection, source: Source) -> None:
    replication, schema = control(connection)
    if schema != source.schema_sequence:
        raise VersionMismatchError(
            f"Packet {source.number} is of schema {source.schema_sequence}, the mirror of schema {schema}: upgrade the "
            "database with MusicBrainz's upgrade.sh for that schema, then go on; nothing was changed."
        )
    if replication is None or source.number != replication + 1:
        raise WrongSequenceError(
            f"Packet {source.number} cannot follow: the mirror is at {replication}. Nothing was changed."
        )


def _check_after(connection: Connection, source: Source) -> None:
    replication, schema = control(connection)
    if (replication, schema) != (source.number, source.schema_sequence):
        raise PacketError(
            f"its changes lead to replication sequence {replication} of schema {schema}, not to {source.number} of "
            f"{source.schema_sequence}: it is not the packet that it says",
            packet=str(source.number),
        )
