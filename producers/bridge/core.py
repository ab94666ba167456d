"""What the bridge decides: which rows are a batch, and how a large one is cut. Pure.

A tick's batch is what is visible in its snapshot and was not in the one of the tick before: nothing is lost and nothing
waits for a long transaction. The rows are found by sequence numbers, so that capture needs no index of its own: the
sequences are read, *then* the tick takes a transaction id; whoever has a higher id has only numbers above.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from events.errors import MbeventsError, VersionMismatchError

STATE_VERSION = 1


class RestoredDatabaseError(MbeventsError):
    """The transaction ids went back: the database is another one than at the last tick."""


class WritersAreActiveError(MbeventsError):
    """The bridge cannot be reset while others write."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """PostgreSQL's pg_snapshot: everything below xmax is finished, but for xip."""

    xmin: int
    xmax: int
    xip: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """`xmin:xmax:xip,xip`, as pg_current_snapshot()::text writes it. Raises ValueError."""
        xmin, xmax, xip = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, xip.split(","))) if xip else frozenset())

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.xip)))}"

    def bounded(self, xid: int) -> "Snapshot":
        """The same, told up to `xid`, an id that was taken after the snapshot.

        PostgreSQL's xmax is the last *ended* transaction plus one: a younger one that is in progress is not in xip.
        """
        return Snapshot(self.xmin, xid, self.xip.union(range(self.xmax, xid)))

    def sees(self, xid: int) -> bool:
        """Whether a transaction had ended (also by rolling back)."""
        return xid < self.xmax and xid not in self.xip


class Floors(NamedTuple):
    """The last values of the sequences of dbmirror2.pending_data and mbevents.outbox."""

    pending: int
    outbox: int

    def lower(self, other: "Floors") -> "Floors":
        return Floors(min(self.pending, other.pending), min(self.outbox, other.outbox))


ZERO = Floors(0, 0)


@dataclass(frozen=True, slots=True)
class Batch:
    """A large batch that is being worked off in several transactions: until which snapshot it goes, the floors read
    before that, and the last numbers that are done (see `cut`)."""

    until: Snapshot
    floors: Floors
    done: Floors = ZERO


@dataclass(frozen=True, slots=True)
class State:
    """Up to where the bridge has looked. `waiting` has the transactions that were in progress, with the floors above
    which their rows are."""

    snapshot: Snapshot
    floors: Floors = ZERO
    waiting: Mapping[int, Floors] = field(default_factory=dict)
    batch: Batch | None = None

    def low(self, now: Snapshot) -> Floors:
        """Above which numbers the rows of the batch are that ends with `now`."""
        low = self.floors
        for xid in self.snapshot.xip:
            if now.sees(xid):
                low = low.lower(self.waiting.get(xid, ZERO))
        return low

    def ended(self, now: Snapshot) -> list[int]:
        """Which of the transactions that were in progress have ended by `now`."""
        return sorted(xid for xid in self.snapshot.xip if now.sees(xid))

    def after(self, now: Snapshot, floors: Floors) -> "State":
        """The state when the batch up to `now` is done: `bounded` by an id taken after `floors` were read."""
        # One that is new in progress has an id above that bound of the old snapshot: its rows are above the old floors.
        waiting = {xid: self.waiting.get(xid, ZERO) if xid in self.snapshot.xip else self.floors for xid in now.xip}
        return State(now, floors, waiting)

    def begin(self, now: Snapshot, floors: Floors) -> "State":
        """The state while the batch up to `now`, bounded, is worked off in parts."""
        return replace(self, batch=Batch(now, floors))

    def progress(self, done: Floors) -> "State":
        assert self.batch is not None
        return replace(self, batch=replace(self.batch, done=done))

    def check(self, now: Snapshot) -> None:
        """Raises RestoredDatabaseError when the database's transaction ids are lower than they were."""
        reached = self.batch.until if self.batch else self.snapshot
        if now.xmax < reached.xmax:
            raise RestoredDatabaseError(
                f"The next transaction id of this database is {now.xmax}, but the bridge has already looked up to "
                f"{reached.xmax}: it was restored into a new cluster. Run `mbevents bridge --reset` once: the bridge "
                "then starts from now, and what is still in dbmirror2.pending_data becomes events again."
            )

    def to_json(self) -> dict[str, Any]:
        raw: dict[str, Any] = {"version": STATE_VERSION, "snapshot": str(self.snapshot), **self.floors._asdict()}
        if self.waiting:
            raw["waiting"] = {str(xid): list(floors) for xid, floors in self.waiting.items()}
        if self.batch is not None:
            raw["batch"] = {
                "until": str(self.batch.until),
                "floors": list(self.batch.floors),
                "done": list(self.batch.done),
            }
        return raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        if raw.get("version") != STATE_VERSION:
            raise VersionMismatchError(
                f"mbevents.tick has version {raw.get('version')!r}, and this release knows {STATE_VERSION}: "
                "a newer release has run the bridge on this database. Install that release again."
            )
        batch = raw.get("batch")
        return cls(
            Snapshot.parse(raw["snapshot"]),
            Floors(raw["pending"], raw["outbox"]),
            {int(xid): Floors(*floors) for xid, floors in raw.get("waiting", {}).items()},
            Batch(Snapshot.parse(batch["until"]), Floors(*batch["floors"]), Floors(*batch["done"])) if batch else None,
        )


class Extent(NamedTuple):
    """One transaction of a large batch: how many rows it has, and its lowest and highest number."""

    xid: int
    rows: int
    first: int
    last: int


class Part(NamedTuple):
    """Whole transactions that are worked off together: their rows have numbers from `first` to `last`."""

    xids: tuple[int, ...]
    first: int
    last: int
    rows: int


def cut(extents: Iterable[Extent], most_rows: int) -> list[Part]:
    """Cut a batch into parts of about `most_rows`, whole transactions each, in the order of their last numbers.

    So the last number of a part tells how far the batch is done. A transaction larger than that is a part by itself.
    """
    parts: list[Part] = []
    taken: list[Extent] = []
    rows = 0
    for extent in sorted(extents, key=lambda each: each.last):
        if taken and rows + extent.rows > most_rows:
            parts.append(_part(taken))
            taken, rows = [], 0
        taken.append(extent)
        rows += extent.rows
    if taken:
        parts.append(_part(taken))
    return parts


def _part(extents: Sequence[Extent]) -> Part:
    return Part(
        tuple(each.xid for each in extents),
        min(each.first for each in extents),
        max(each.last for each in extents),
        sum(each.rows for each in extents),
    )


@dataclass(slots=True)
class Wakefulness:
    """When the bridge may sleep until it is notified.

    While it is awake, writers do not notify. One that looked before the bridge said that it sleeps may commit after
    the bridge's last look: so it drowses, still looking, until every transaction that was in progress then has ended.
    Times in seconds of any clock.
    """

    linger: float = 0.1
    interval: float = 0.01
    drowsy_interval: float = 0.1
    _dozed_at: float = 0.0
    _last_work: float = 0.0
    _drowsy_until: int | None = None
    awake: bool = True

    def worked(self, now: float) -> None:
        self._last_work = now

    def tired(self, now: float) -> bool:
        """Whether nothing came for a while, so that the bridge should say that it sleeps."""
        return self.awake and now - self._last_work >= self.linger

    def doze(self, xid: int, now: float) -> None:
        """It has said so; `xid` is a transaction id that was taken after that."""
        self.awake = False
        self._dozed_at = now
        self._drowsy_until = xid

    def may_sleep(self, looked: Snapshot) -> bool:
        """Whether the last look, with this snapshot, has seen all who might not notify."""
        if self._drowsy_until is not None and looked.xmin >= self._drowsy_until:
            self._drowsy_until = None
        return not self.awake and self._drowsy_until is None

    def pause(self, now: float) -> float:
        """How long to wait before the next look: most of who it waits for end soon, some take hours."""
        if self.awake:
            return self.interval
        return min(self.drowsy_interval, max(self.interval, (now - self._dozed_at) / 20))

    def wake(self, now: float) -> None:
        self.awake = True
        self._drowsy_until = None
        self._last_work = now
