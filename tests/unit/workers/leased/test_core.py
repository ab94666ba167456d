"""The form of entries, and when one is due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.leased.core import Found, Lease, Loaded, decode, encode, is_due

LEASE = Lease("t", "0123456789abcdef", 7)
tags = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)


@given(st.none() | st.binary(max_size=50), st.lists(tags, max_size=4).map(tuple), st.floats(0, 100), st.floats(0, 100))
def test_an_entry_gives_back_what_was_loaded(
    body: bytes | None, tags: tuple[str, ...], cost: float, stale: float
) -> None:
    found = decode(encode(LEASE, Loaded(body, tags, stale_seconds=stale), seconds=250, cost=cost), 200_000)
    assert found is not None
    assert (found.body, found.tags) == (body, tags)
    assert found.cost == pytest.approx(cost, abs=0.001)
    assert found.left == pytest.approx(200 - stale, abs=0.001)
    assert found.age == pytest.approx(50 + stale, abs=0.001)


@given(st.binary(max_size=80))
def test_no_bytes_at_all_make_reading_fail(raw: bytes) -> None:
    found = decode(raw, 1000)
    assert found is None or b"\n" in raw


def test_far_from_its_end_an_entry_is_not_due_and_behind_it_always() -> None:
    fresh, stale = Found(b"", (), 0.1, 60.0), Found(b"", (), 0.0, -0.1)
    assert not any(is_due(fresh, rand) for rand in (1.0, 0.5, 0.001))
    assert all(is_due(stale, rand) for rand in (1.0, 0.5, 0.001))


def test_the_dearer_a_load_the_earlier_it_is_made_again() -> None:
    def share(cost: float, left: float) -> float:
        return sum(is_due(Found(b"", (), cost, left), (number + 1) / 1000) for number in range(1000)) / 1000

    assert share(1.0, 1.0) == pytest.approx(0.368, abs=0.01)
    assert share(0.1, 1.0) < 0.001
    assert share(1.0, 0.5) > share(1.0, 1.0) > share(1.0, 3.0) > 0
