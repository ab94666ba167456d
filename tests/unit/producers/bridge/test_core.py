"""The tick's arithmetic, against a simulated PostgreSQL that hands out transaction ids, numbers and snapshots."""

from dataclasses import dataclass, field
from itertools import pairwise

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.errors import VersionMismatchError
from producers.bridge.core import (
    Extent,
    Floors,
    RestoredDatabaseError,
    Snapshot,
    State,
    Wakefulness,
    cut,
)


@dataclass
class Server:
    """Transactions that begin, write rows and end in any order."""

    next_xid: int = 100
    last_ended: int = 99
    seqid: int = 0
    running: dict[int, list[int]] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)  # seqid → xid

    def snapshot(self) -> Snapshot:
        # PostgreSQL's xmax is one more than the last that ended, not the next id that is given out.
        xmax = self.last_ended + 1
        listed = frozenset(xid for xid in self.running if xid < xmax)
        return Snapshot(min(listed, default=xmax), xmax, listed)

    def take_xid(self) -> int:
        """A transaction of the bridge's own that ends at once."""
        self.next_xid += 1
        self.last_ended = max(self.last_ended, self.next_xid - 1)
        return self.next_xid - 1

    def do(self, action: tuple[str, int]) -> None:
        what, which = action
        if what == "begin":
            self.running[self.next_xid] = []
            self.next_xid += 1
        elif self.running:
            xid = sorted(self.running)[which % len(self.running)]
            if what == "write":
                self.seqid += 1
                self.running[xid].append(self.seqid)
            else:
                rows = self.running.pop(xid)
                self.last_ended = max(self.last_ended, xid)
                if what == "commit":
                    self.committed |= dict.fromkeys(rows, xid)

    def select(self, state: State, now: Snapshot) -> list[int]:
        """What the reader's query finds."""
        low, ended = state.low(now), state.ended(now)
        return sorted(
            seqid
            for seqid, xid in self.committed.items()
            if seqid > low.pending and (xid >= state.snapshot.xmax or xid in ended) and now.sees(xid)
        )


def _stored(state: State) -> State:
    return State.from_json(orjson.loads(orjson.dumps(state.to_json())))


actions = st.lists(
    st.tuples(st.sampled_from(["begin", "write", "write", "commit", "rollback", "tick", "floors"]), st.integers(0, 9)),
    max_size=120,
)


# The younger of two transactions writes before the sequence is read, and is not listed in the snapshot as in progress.
HIDDEN = [
    ("begin", 0),
    ("begin", 0),
    ("write", 0),
    ("write", 1),
    ("floors", 0),
    ("commit", 0),
    ("tick", 0),
    ("commit", 0),
]


@settings(max_examples=500)
@example(HIDDEN)
@given(actions)
def test_every_committed_row_is_in_exactly_one_batch(history: list[tuple[str, int]]) -> None:
    server = Server()
    state = State(server.snapshot())
    floors = Floors(0, 0)
    seen: list[int] = []
    for action in [*history, ("floors", 0), ("tick", 0)]:
        if action[0] == "floors":
            floors = Floors(server.seqid, 0)  # read some time before the snapshot
        elif action[0] == "tick":
            now = server.snapshot()
            found = server.select(state, now)
            seen += found
            if found:
                state = _stored(state.after(now.bounded(server.take_xid()), floors))
        else:
            server.do(action)
    assert sorted(seen) == sorted(server.committed)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=40), st.integers(1, 60))
def test_parts_hold_every_transaction_once_and_end_in_order(sizes: list[tuple[int, int]], most: int) -> None:
    extents, last = [], 0
    for xid, (rows, gap) in enumerate(sizes):
        last += gap
        extents.append(Extent(xid, rows, max(1, last - rows), last))
    parts = cut(reversed(extents), most)
    assert [xid for part in parts for xid in part.xids] == [extent.xid for extent in extents]
    assert all(one.last < other.last for one, other in pairwise(parts))
    assert all(part.rows <= most or len(part.xids) == 1 for part in parts)
    assert all(part.first <= extents[xid].first for part in parts for xid in part.xids)


def test_a_long_transaction_is_looked_for_where_it_began() -> None:
    state = State(Snapshot(10, 12, frozenset({10})), Floors(500, 0), {10: Floors(7, 3)})
    assert state.low(Snapshot(10, 20, frozenset({10}))) == Floors(500, 0)
    assert state.low(Snapshot(20, 20)) == Floors(7, 0)


def test_a_batch_in_parts_survives_being_stored() -> None:
    state = State(Snapshot(10, 12, frozenset({10})), Floors(5, 6), {10: Floors(1, 2)})
    state = state.begin(Snapshot(15, 20, frozenset({15})), Floors(90, 91)).progress(Floors(40, 0))
    assert _stored(state) == state


def test_a_state_of_a_newer_release_is_refused() -> None:
    with pytest.raises(VersionMismatchError, match="newer release"):
        State.from_json({"version": 2})


def test_a_database_whose_transaction_ids_went_back_is_refused() -> None:
    with pytest.raises(RestoredDatabaseError, match="--reset"):
        State(Snapshot(900, 900)).check(Snapshot(30, 30))


@given(st.integers(1, 2**63), st.sets(st.integers(1, 2**63)))
def test_snapshots_are_read_as_they_are_written(xmax: int, xip: set[int]) -> None:
    snapshot = Snapshot(min(xip, default=xmax), xmax, frozenset(xip))
    assert Snapshot.parse(str(snapshot)) == snapshot


def test_it_sleeps_only_when_nobody_is_left_who_thinks_it_awake() -> None:
    wake = Wakefulness(linger=0.1)
    wake.wake(0.0)
    assert not wake.tired(0.05)
    assert wake.tired(0.1)
    wake.doze(9, 0.1)
    assert (wake.pause(0.1), wake.pause(1.1), wake.pause(60)) == (0.01, 0.05, 0.1)
    assert not wake.may_sleep(Snapshot(7, 12, frozenset({7})))
    assert wake.may_sleep(Snapshot(9, 12, frozenset({9})))
    assert wake.may_sleep(Snapshot(9, 12, frozenset({9})))
