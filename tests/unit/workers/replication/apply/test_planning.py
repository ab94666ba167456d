from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.derivation import entity_map
from events.derivation.core import Deriver
from workers.replication.apply.core import Change, Column, Table, ranks
from workers.replication.apply.planning import InterleavedError, Planner, Tables, UnorderedError
from workers.replication.packet.errors import PacketError

NAME = "musicbrainz.tag"
TAG = Table(NAME, (Column("id", "plain"), Column("name", "plain"), Column("ref_count", "plain")), ("id",))


def planner(deriver: Callable[[], Deriver] | None = None, *, whole: bool = False, chunk: int = 2) -> Planner:
    known = entity_map.load()
    tables = Tables({NAME: TAG}, known=known.tables, wanted=lambda _: True)
    return Planner(tables, ranks=ranks(known), chunk=chunk, deriver=deriver, whole=whole)


def change(seqid: int, xid: int, row: int | None = None) -> Change:
    number = seqid if row is None else row
    data = b'{"id":%d,"name":"%d","ref_count":0}' % (number, seqid)
    return Change(seqid, xid, NAME, "u", data, data)


def names(changes: list[Change]) -> dict[str, str]:
    """What a mirror has in the end, by id."""
    found: dict[str, str] = {}
    for chunk in planner().chunks([changes]):
        for work in chunk.work:
            found |= {line.split("\t")[0]: line.split("\t")[1] for line in work.updates}
    return found


@pytest.mark.parametrize(
    "order",
    [
        [(1, 5), (2, 5), (3, 6), (4, 7)],
        # By number, whatever the transactions.
        [(1, 7), (2, 5), (3, 7), (4, 6)],
        # Transaction by transaction, which overlap.
        [(1, 5), (4, 5), (2, 6), (5, 6), (3, 7), (6, 7)],
    ],
)
def test_changes_are_taken_by_number_or_transaction_by_transaction(order: list[tuple[int, int]]) -> None:
    found = names([change(seqid, xid) for seqid, xid in order])
    assert found == {str(seqid): str(seqid) for seqid, _ in order}


@pytest.mark.parametrize(
    "order",
    [
        [(2, 5), (1, 5)],
        # The second one ended first.
        [(1, 5), (4, 5), (2, 6), (3, 6)],
        [(1, 5), (4, 5), (2, 6), (3, 6), (7, 7)],
        # A transaction comes again.
        [(1, 5), (4, 5), (2, 6), (5, 6), (3, 5), (6, 5)],
        [(1, 6), (4, 6), (2, 5), (5, 5)],
    ],
)
def test_changes_in_no_order_are_told_before_they_do_harm(order: list[tuple[int, int]]) -> None:
    with pytest.raises(UnorderedError):
        names([change(seqid, xid) for seqid, xid in order])


def test_a_change_that_comes_twice_is_no_question_of_order() -> None:
    with pytest.raises(PacketError, match="change 4 is there twice"):
        names([change(4, 5), change(4, 5)])


@given(st.permutations(range(6)), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_whatever_is_taken_leaves_each_row_as_its_last_number_did(order: list[int], rows: list[int]) -> None:
    # Each transaction has two changes; rows that two of them share are changed in the order of their numbers and ends.
    changes = [change(seqid, seqid % 3, rows[seqid]) for seqid in order]
    try:
        found = names(changes)
    except UnorderedError:
        return
    last = {str(row): str(max(seqid for seqid in range(6) if rows[seqid] == row)) for row in set(rows)}
    ends = {xid: max(seqid for seqid in range(6) if seqid % 3 == xid) for xid in range(3)}
    possible = all(
        ends[one % 3] < ends[other % 3] or one % 3 == other % 3
        for one in range(6)
        for other in range(one + 1, 6)
        if rows[one] == rows[other]
    )
    if possible:
        assert found == last


def test_events_of_transactions_that_lie_in_each_other_come_at_the_end() -> None:
    changes = [change(1, 7), change(2, 5), change(3, 7), change(4, 6)]
    with pytest.raises(InterleavedError):
        list(planner(lambda: Deriver("mb://x")).chunks([changes]))
    chunks = list(planner(lambda: Deriver("mb://x"), whole=True, chunk=1).chunks([changes]))
    assert [chunk.events is None for chunk in chunks] == [True, True, True, False]
    assert chunks[-1].events is not None
    assert sorted(chunks[-1].events[1]) == [5, 6, 7]
