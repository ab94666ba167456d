"""From a packet's changes to chunks of work, in bounded memory."""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field

from events.derivation.core import Deriver
from schemas.capture import RowChange
from workers.replication.apply.core import Change, Codec, Net, Row, RowError, Table, Work
from workers.replication.packet.errors import PacketError

# Its change is how the mirror's sequence advances.
CONTROL = "musicbrainz.replication_control"
# Changes of the first chunk.
FIRST = 2_000


class UnorderedError(Exception):
    """The changes come in no order in which they can be made."""


class KeyNeededError(Exception):
    """Only the packet knows the key of a table, and tells it behind the rows."""


class InterleavedError(Exception):
    """The rows of a transaction do not come together, so nobody knows when it is complete."""


@dataclass(slots=True)
class Chunk:
    """Some of a packet's changes: what is to be made of them, and whose events are complete with them."""

    work: list[Work] = field(default_factory=list)
    events: tuple[Deriver, list[int]] | None = None


@dataclass(slots=True)
class Counts:
    """What was read."""

    changes: int = 0
    transactions: int = 0
    # By table: changes that are not made here.
    skipped: dict[str, int] = field(default_factory=dict)


class Tables:
    """What a packet's table names mean on this mirror. `known` are the replicated tables of this release's schema,
    which a mirror may lack; `wanted` says which the operator keeps; `keys` are the packet's own; `texts`: see Codec."""

    def __init__(
        self,
        tables: Mapping[str, Table],
        *,
        known: Iterable[str],
        wanted: Callable[[str], bool],
        keys: Mapping[str, tuple[str, ...]] | None = None,
        texts: bool = False,
    ) -> None:
        self._tables = tables
        self._texts = texts
        self._known = frozenset(known)
        self._wanted = wanted
        self._keys = keys
        self._codecs: dict[str, Codec | None] = {}

    def codec(self, name: str) -> Codec | None:
        """None for a table that is not kept here. Raises PacketError for one that nobody knows."""
        if name not in self._codecs:
            self._codecs[name] = self._find(name)
        return self._codecs[name]

    def used(self) -> dict[str, tuple[str, ...]]:
        """The keys that were used, by table."""
        return {name: codec.key for name, codec in self._codecs.items() if codec is not None}

    def _find(self, name: str) -> Codec | None:
        table = self._tables.get(name)
        if table is None:
            if name in self._known:
                return None
            raise PacketError(f"it changes a table {name!r:.100}, which neither this mirror nor the schema has")
        if name != CONTROL and not self._wanted(name):
            return None
        key = table.key
        if not key:
            if self._keys is None:
                raise KeyNeededError
            key = self._keys.get(name, ())
        if not key:
            raise PacketError(f"{name} has no primary key, here and in the packet: run CreatePrimaryKeys.sql")
        unknown = set(key) - {column.name for column in table.columns}
        if unknown:
            raise PacketError(f"the packet's key of {name} has a column {min(unknown)!r:.80}, which it has not here")
        return Codec(table, key, texts=self._texts)


class _Order:
    """Whether changes come in an order in which they can be made: by number throughout (`ascending`), or transaction by
    transaction, these by their last numbers (`apart`). For whatever two transactions share, both are the commits'."""

    def __init__(self) -> None:
        self.ascending = self.apart = True
        self._last = self._ended = -1
        self._xid: int | None = None

    def see(self, seqid: int, xid: int) -> None:
        """The next change. Raises UnorderedError; PacketError for one that comes twice."""
        if seqid <= self._last:
            if seqid == self._last:
                raise PacketError(f"change {seqid} is there twice")
            self.ascending = False
            if xid == self._xid:
                self.apart = False
        if xid != self._xid:
            # A lower id may be of a transaction that was there before.
            if self._xid is not None and xid < self._xid:
                self.apart = False
            self.end()
            self._ended, self._xid = self._last, xid
        self._last = seqid
        if not (self.ascending or self.apart):
            raise UnorderedError

    def end(self) -> None:
        """A transaction has come to its end. Raises UnorderedError."""
        if self._last < self._ended:
            self.apart = False
            if not self.ascending:
                raise UnorderedError


class Planner:
    """Reads changes once. With `deriver` their events are told too; `whole`: transactions may lie in each other;
    without `net` the changes were made already, and only their events are wanted."""

    def __init__(
        self,
        tables: Tables,
        *,
        ranks: Mapping[str, int],
        chunk: int,
        deriver: Callable[[], Deriver] | None,
        whole: bool = False,
        net: bool = True,
        first: int = FIRST,
    ) -> None:
        self._tables = tables
        self._ranks = ranks
        self._chunk = chunk
        self._make_deriver = deriver
        self._whole = whole
        self._net = net
        self._first = first
        self.counts = Counts()

    def chunks(self, changes: Iterable[list[Change]]) -> Generator[Chunk, None, None]:
        """Raises PacketError, ContradictionError, UnorderedError, InterleavedError."""
        counts = self.counts
        nets: dict[str, Net] = {}
        derive = self._make_deriver is not None
        deriver = self._make_deriver() if self._make_deriver else None
        told: list[RowChange] = []
        xids: dict[int, None] = {}
        pending = 0
        # The first ones are smaller: until one is there, the database has nothing to do.
        enough = min(self._chunk, self._first)
        order = _Order()
        last_xid: int | None = None
        for some in changes:
            for change in some:
                seqid, xid, table, op = change[:4]
                order.see(seqid, xid)
                if xid != last_xid:
                    if derive and not self._whole and not order.apart:
                        raise InterleavedError
                    if pending >= enough:
                        yield self._cut(nets, deriver, told, xids, complete=not self._whole)
                        nets, told, pending = {}, [], 0
                        enough = min(self._chunk, 2 * enough)
                        if not self._whole:
                            xids = {}
                            deriver = self._make_deriver() if self._make_deriver else None
                    last_xid = xid
                    xids[xid] = None
                elif pending >= 2 * self._chunk:
                    # A large transaction: its events come with its end.
                    yield self._cut(nets, deriver, told, xids, complete=False)
                    nets, told, pending = {}, [], 0
                pending += 1
                rows = self._one(nets, change)
                if derive and rows is not None:
                    told.append(RowChange(seqid, xid, table, op, *rows, ""))
            counts.changes += len(some)
            if deriver is not None:
                deriver.add(told)
                told = []
        order.end()
        counts.transactions += len(xids)
        yield self._cut(nets, deriver, told, xids, complete=True, last=True)

    def _one(self, nets: dict[str, Net], change: Change) -> tuple[Row | None, Row | None] | None:
        """Take a change; the old and new row as events want them, or None when the table is not kept here."""
        name = change.table
        codec = self._tables.codec(name)
        if codec is None:
            skipped = self.counts.skipped
            skipped[name] = skipped.get(name, 0) + 1
            return None
        old = None
        try:
            if change.old is None or self._make_deriver is None:
                old_key = None if change.old is None else codec.old_key(change.old)
            else:
                old = codec.old_row(change.old)
                old_key = codec.key_of(old)
            new = None if change.new is None else codec.row(change.new)
            if self._net:
                net = nets.get(name)
                if net is None:
                    net = nets[name] = Net(codec)
                net.take(old_key, new)
        except RowError as error:
            raise PacketError(f"a row of change {change.seqid} of {name} {error}") from None
        return codec.told(old, change.old), codec.told(new, change.new)

    def _cut(
        self,
        nets: Mapping[str, Net],
        deriver: Deriver | None,
        told: list[RowChange],
        xids: Mapping[int, None],
        *,
        complete: bool,
        last: bool = False,
    ) -> Chunk:
        if deriver is not None:
            deriver.add(told)
        if complete and not last:
            self.counts.transactions += len(xids)
        ordered = sorted(nets, key=lambda name: (self._ranks.get(name, 0), name))
        events = (deriver, list(xids)) if deriver is not None and complete else None
        return Chunk([nets[name].work() for name in ordered], events)
