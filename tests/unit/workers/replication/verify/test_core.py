import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.replication import Digest
from workers.replication.verify.core import (
    MOST_BUCKETS,
    NOTHING,
    Column,
    Row,
    Shape,
    Total,
    added,
    compare_rows,
    differing,
    parts,
    shift_for,
    table_digest,
    together,
    totals,
)

ROWS = st.dictionaries(
    st.integers(-3, 3), st.builds(Total, st.integers(0, 9), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
)
TAG = Shape("musicbrainz.tag", (Column("id", "integer", False), Column("name", "text", False)), ("id",), 1)
LOOSE = Shape("musicbrainz.loose", TAG.columns, (), 1)


@given(st.lists(ROWS, max_size=5), st.randoms())
def test_the_sum_knows_no_order(found: list[dict[int, Total]], chance: object) -> None:
    mixed = found[::-1]
    assert added((1, each) for each in found) == added((1, each) for each in mixed)


@given(ROWS, ROWS)
def test_what_is_taken_away_again_was_never_there(one: dict[int, Total], other: dict[int, Total]) -> None:
    assert added([(1, one), (1, other), (-1, other)]) == added([(1, one)])


@given(ROWS, ROWS)
def test_digests_differ_exactly_where_their_buckets_do(one: dict[int, Total], other: dict[int, Total]) -> None:
    found = differing(one, other, 4)
    numbers = [each.low // 16 for each in found if each.low is not None]
    assert numbers == [n for n in range(-3, 4) if one.get(n, NOTHING) != other.get(n, NOTHING)]
    assert all(each.width == 16 for each in found)


@given(ROWS)
def test_a_published_digest_reads_as_what_was_summed(buckets: dict[int, Total]) -> None:
    buckets = added([(1, buckets)])
    digest = Digest(
        sequence=7, schema_sequence=31, algorithm="md5-sums-1", left_out=(),
        tables={"musicbrainz.tag": table_digest(TAG, 3, buckets)},
    )  # fmt: skip
    read = Digest.model_validate_json(digest.model_dump_json())
    assert read == digest
    table = read.tables["musicbrainz.tag"]
    assert totals(table) == buckets
    assert (table.count, table.digest) == (together(buckets).rows, together(buckets).digest)
    assert table.key == "id"


@given(st.integers(-(2**40), 2**40), st.integers(0, 2**40))
def test_ranges_are_as_many_as_can_be_but_not_too_many(least: int, width: int) -> None:
    shift = shift_for(least, least + width)
    assert ((least + width) >> shift) - (least >> shift) < MOST_BUCKETS
    assert shift == 0 or ((least + width) >> (shift - 1)) - (least >> (shift - 1)) >= MOST_BUCKETS


@given(st.integers(0, 10_000), st.integers(1, 3_000))
def test_parts_are_a_table_and_all_that_it_may_have_grown_by(pages: int, most: int) -> None:
    cut = parts(pages, most)
    assert cut[0].first == 0
    assert cut[-1].last is None
    assert all(one.last == other.first for one, other in itertools.pairwise(cut))


KEYED = st.dictionaries(st.integers(-5, 20).map(str), st.sampled_from(["a", "b", None]))


@given(KEYED, KEYED)
def test_what_is_told_of_rows_makes_the_one_set_of_the_other(
    one: dict[str, str | None], other: dict[str, str | None]
) -> None:
    expected: Counter[Row] = Counter(one.items())
    found: Counter[Row] = Counter(other.items())
    rows = dict(other)
    for each in compare_rows(TAG, expected, found):
        key = each.key["id"]
        assert key is not None
        if each.kind == "extra":
            del rows[key]
        else:
            assert each.expected is not None
            assert (key in rows) == (each.kind == "changed")
            rows[key] = each.expected["name"]
            assert each.columns == (("name",) if each.kind == "changed" else ())
    assert rows == one


def test_rows_of_a_table_without_a_key_are_their_own_key() -> None:
    told = list(compare_rows(LOOSE, Counter({("1", "a"): 2}), Counter({("1", "b"): 1})))
    assert [(each.kind, each.key["name"]) for each in told] == [("missing", "a"), ("missing", "a"), ("extra", "b")]


def test_rows_are_told_by_the_value_of_their_keys() -> None:
    rows: Counter[Row] = Counter([("10", "a"), ("9", "a"), ("-1", "a")])
    assert [each.key["id"] for each in compare_rows(TAG, rows, Counter())] == ["-1", "9", "10"]


@pytest.mark.parametrize(
    "change",
    [{"algorithm": "md5-sums-2"}, {"sequence": -1}, {"tables": {"t": {"count": 1}}}, {"tables": 7}],
)
def test_a_digest_of_another_form_is_refused(change: dict[str, object]) -> None:
    good = Digest(sequence=7, schema_sequence=31, algorithm="md5-sums-1", left_out=(), tables={}).model_dump()
    with pytest.raises(ValidationError):
        Digest.model_validate(good | change)
