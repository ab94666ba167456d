"""From row changes to events: pure, and the same on a master, on a mirror and standalone.

    changes → collectors → one Transaction each → owners and MBIDs looked up in batches → drafts in order

What a change concerns comes from the committed entity map. Order of the drafts: transactions by their last seqid, which
is commit order for whatever two of them share; inside one by the seqid of each event's first change. The outbox counts
by a sequence of its own, so a transaction has a place in each of the two orders, and they are interleaved such that
both hold.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import merge

from events.derivation import entity_map as maps
from events.derivation.artwork import artwork_drafts
from events.derivation.collect import collectors
from events.derivation.drafting import Drafting, Ordered, Resolved
from events.derivation.edits import outbox_collectors, outbox_drafts
from events.derivation.entities import entity_drafts, redirect_drafts
from events.derivation.entity_map import EntityMap
from events.derivation.links import link_drafts
from events.derivation.resolution import Resolution, Resolver, via_tables
from events.derivation.state import Transaction
from schemas.capture import RowChange
from schemas.envelope import Draft

__all__ = ["Deriver", "Resolver"]


class Deriver:
    """Accumulates changes by transaction and makes drafts of complete ones.

    Nothing that it is fed stops it, so that one odd row cannot stop the feed for ever; the caller is to log and count:
    `unknown_tables` (changes by table that is not in the entity map: the schema is newer than this release),
    `unreadable` (changes by table whose rows lack an expected column), `unresolved` (touched rows whose MBID nobody
    knows any more; no event tells of them).
    """

    def __init__(self, source: str, entity_map: EntityMap | None = None) -> None:
        self._source = source
        self._map = entity_map or maps.load()
        self._collectors = collectors(self._map) | outbox_collectors()
        self._via = via_tables(self._map)
        self._artwork_types = {
            via.kind: self._map.entity_types(via.table)[0] for via in self._via if "_art_archive." in via.table
        }
        self._transactions: dict[int, Transaction] = {}
        self.unknown_tables: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()
        self.unresolved = 0

    def add(self, changes: Iterable[RowChange]) -> None:
        """Take changes, those of one transaction in the order of their seqids; any number of calls, in any mixture."""
        transactions = self._transactions
        find = self._collectors.get
        tx: Transaction | None = None
        for seqid, xid, table, op, old, new, time in changes:
            if tx is None or tx.xid != xid:
                tx = transactions.get(xid)
                if tx is None:
                    tx = transactions[xid] = Transaction(xid, time)
            collector = find(table)
            if collector is None:
                self.unknown_tables[table] += 1
                continue
            if collector.replicated:
                tx.last_replicated = max(tx.last_replicated, seqid)
            else:
                tx.last_outbox = max(tx.last_outbox, seqid)
            try:
                collector.collect(tx, seqid, op, old, new)
            except (KeyError, TypeError):
                # A column is gone or of another type: the schema is not the one that the map was made from.
                self.unreadable[table] += 1

    def drafts(self, xids: Iterable[int], resolver: Resolver) -> list[Draft]:
        """The events of these complete transactions, in order; forgets them."""
        return list(self.stream(xids, resolver))

    def stream(self, xids: Iterable[int], resolver: Resolver) -> Iterator[Draft]:
        """`drafts` one by one, for large batches: memory is given back as they are taken.

        Everything is looked up, and the transactions are forgotten, before this returns. The drafts are for reading:
        equal lists of changes are one object.
        """
        others = list(self._transactions.values())
        batch = [tx for xid in dict.fromkeys(xids) if (tx := self._transactions.pop(xid, None)) is not None]
        resolved = Resolution(batch, others, self._via, resolver).run()
        return self._stream(batch, resolved)

    def _stream(self, batch: Iterable[Transaction], resolved: Resolved) -> Iterator[Draft]:
        try:
            for tx, replicated in _in_order(batch):
                drafting = Drafting(self._source, tx, resolved)
                for ordered in self._replicated(drafting) if replicated else self._outbox(drafting):
                    yield ordered.draft
        finally:
            self.unresolved += resolved.unresolved

    def _replicated(self, drafting: Drafting) -> Iterable[Ordered]:
        entities = entity_drafts(drafting)
        extras = drafting.tx.extras
        if not (extras.redirects or extras.relationships or extras.images):
            return entities
        # Each comes in the order of its first change already.
        few = (redirect_drafts(drafting), link_drafts(drafting), artwork_drafts(drafting, self._artwork_types))
        return merge(entities, *few, key=_place)

    def _outbox(self, drafting: Drafting) -> Iterable[Ordered]:
        return sorted(outbox_drafts(drafting, self._map), key=_place)


def _place(ordered: Ordered) -> tuple[int, int]:
    return ordered.first, ordered.rank


def _in_order(batch: Iterable[Transaction]) -> Iterator[tuple[Transaction, bool]]:
    """Each transaction's replicated part (True) and outbox part (False), both kinds in their own commit order.

    The parts of a transaction stay together unless the two orders contradict each other, which they may where two
    transactions share nothing of one kind.
    """
    everything = list(batch)
    replicated = sorted((tx for tx in everything if tx.last_replicated >= 0), key=lambda tx: tx.last_replicated)
    outbox = sorted((tx for tx in everything if tx.last_outbox >= 0), key=lambda tx: tx.last_outbox)
    pending = iter(outbox)
    following = next(pending, None)
    told: set[int] = set()
    for tx in replicated:
        yield tx, True
        told.add(tx.xid)
        # Everything in the outbox's order that does not wait for a replicated part.
        while following is not None and (following.last_replicated < 0 or following.xid in told):
            yield following, False
            following = next(pending, None)
    while following is not None:
        yield following, False
        following = next(pending, None)
