import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.pubsub.core import PositionAheadError, PositionLostError, reached

POSITIONS = st.integers(0, 50)


@given(POSITIONS, st.sets(st.integers(1, 50)), st.integers(1, 10))
def test_a_follower_comes_to_every_kept_position_in_order_until_one_is_lost(
    after: int, kept: set[int], limit: int
) -> None:
    head = max(kept | {after})
    log, position, seen = sorted(kept), after, []
    lost: PositionLostError | None = None
    while position < head and lost is None:
        found = [each for each in log if each > position][:limit]
        try:
            until = reached(position, head, found)
        except PositionLostError as error:
            lost = error
        else:
            seen += found[: until - position]
            position = until
    assert seen == list(range(after + 1, position + 1))
    gone = set(range(after + 1, head + 1)) - kept
    assert (lost is None) == (not gone)
    if lost is not None:
        # All that it names are gone, from the first on, and no other is between them and the next.
        assert lost.first == min(gone) == position + 1
        assert set(range(lost.first, lost.last + 1)) <= gone
        assert lost.last + 1 in kept or lost.last == head


def test_what_is_lost_and_what_to_do_is_told() -> None:
    with pytest.raises(PositionLostError, match=r"positions 4 to 6 are no longer in the log.*follow after 6\."):
        reached(3, 9, [7, 8, 9])
    with pytest.raises(PositionLostError) as all_gone:
        reached(3, 9, [])
    assert (all_gone.value.first, all_gone.value.last) == (4, 9)


@given(POSITIONS, st.integers(1, 50))
def test_a_log_that_ends_before_the_position_is_another_one(head: int, further: int) -> None:
    with pytest.raises(PositionAheadError, match=f"ends at position {head}"):
        reached(head + further, head, [])


def test_nothing_new_is_no_error() -> None:
    assert reached(5, 5, []) == 5
