from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.values import ENTITY_TYPES
from workers.caches import tags
from workers.caches.statistics.core import SURVEYS, Counted, decode, encode, is_due, told

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def counted(seconds: float = 1.0, ago: float = 0.0, **values: int | None) -> Counted:
    return Counted(values, NOW - timedelta(seconds=ago), seconds)


def test_every_name_is_counted_once_and_entities_expire_by_their_events() -> None:
    names = [name for survey in SURVEYS for name in survey.statistics]
    assert len(names) == len(set(names))
    assert len({survey.name for survey in SURVEYS} | {survey.copy for survey in SURVEYS}) == 2 * len(SURVEYS)
    for entity_type in ENTITY_TYPES:
        (survey,) = [each for each in SURVEYS if each.name == entity_type]
        assert survey.tags == (tags.counted(entity_type),)


@given(st.dictionaries(st.text(max_size=9), st.none() | st.integers(0, 2**62)), st.floats(0, 1e6))
def test_what_was_counted_comes_back(values: dict[str, int | None], seconds: float) -> None:
    assert decode(encode(Counted(values, NOW, seconds))) == Counted(values, NOW, seconds)


@pytest.mark.parametrize("body", [None, b"", b"{}", b"[]", b"1", b'{"values":1,"counted_at":2,"seconds":3}', b"\xff"])
def test_what_we_did_not_write_was_not_counted(body: bytes | None) -> None:
    assert decode(body) is None


@pytest.mark.parametrize(
    ("left", "last", "due"),
    [
        (100.0, counted(), False),
        (9.0, counted(), True),
        (None, None, True),
        # Void by an event: again, but at most 2 % of the time.
        (None, counted(seconds=1, ago=49), False),
        (None, counted(seconds=1, ago=51), True),
        (None, counted(seconds=60, ago=2_999), False),
        (None, counted(seconds=0), True),
    ],
)
def test_when_it_is_counted_again(left: float | None, last: Counted | None, due: bool) -> None:
    assert is_due(left, last, now=NOW, margin=10) is due


def test_what_expired_is_told_as_it_was_last_counted() -> None:
    one, two, three = SURVEYS[:3]
    fresh, last = (
        [counted(**{one.statistics[0]: 5}), None, None],
        [None, counted(ago=9, **{two.statistics[0]: 6}), None],
    )
    found = [(each.value, each.expired) for each in told([one, two, three], fresh, last)]
    assert found == [(5, False), (6, True), (None, True)]
