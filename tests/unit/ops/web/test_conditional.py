from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.web.conditional import Part, UnsatisfiableError, http_date, is_unchanged, wanted_part

ETAG = "1f-2a"
MODIFIED = datetime(2026, 5, 11, 21, 14, 26, 878674, tzinfo=UTC)
DATE = "Mon, 11 May 2026 21:14:26 GMT"
LATER = http_date(MODIFIED + timedelta(days=1))
EARLIER = http_date(MODIFIED - timedelta(seconds=1))


def part(header: str, size: int = 100, condition: str | None = None) -> Part | None:
    headers = {"range": header} if condition is None else {"range": header, "if-range": condition}
    return wanted_part(headers, size, ETAG, MODIFIED)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, 100),
        ("bytes=99-", 99, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-100", 0, 100),
        ("bytes=-101", 0, 100),
        ("bytes=0-99999999999999999999", 0, 100),
        ("bytes=-99999999999999999999", 0, 100),
        (" BYTES = 5-6 ", 5, 7),
    ],
)
def test_a_single_range_is_heeded(header: str, start: int, end: int) -> None:
    assert part(header) == Part(start, end)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=99999999999999999999-", "bytes=-0"])
def test_a_range_beyond_the_end_cannot_be_had(header: str) -> None:
    with pytest.raises(UnsatisfiableError):
        part(header)


def test_nothing_of_an_empty_file_can_be_had_in_parts() -> None:
    for header in ("bytes=0-", "bytes=0-0", "bytes=-5"):
        with pytest.raises(UnsatisfiableError):
            part(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=--5",
        "bytes=-5-6",
        "bytes=1-2-3",
        "bytes=0-1,3-4",
        "bytes=" + ",".join(["0-"] * 1000),
        "bytes=0x1-0x2",
        "bytes=١-٢",
        "items=0-1",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_of_what_is_not_one_range_the_whole_is_sent(header: str) -> None:
    assert part(header) is None


@pytest.mark.parametrize("condition", [f'"{ETAG}"', DATE])
def test_a_part_of_the_same_file_is_sent(condition: str) -> None:
    assert part("bytes=5-", condition=condition) == Part(5, 100)


@pytest.mark.parametrize("condition", ['"other"', f'W/"{ETAG}"', ETAG, LATER, EARLIER, "", "nonsense"])
def test_of_another_file_the_whole_is_sent(condition: str) -> None:
    assert part("bytes=5-", condition=condition) is None


@given(st.text(max_size=40), st.integers(0, 50))
def test_no_range_breaks_it(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            found = part(text, size)
        except UnsatisfiableError:
            continue
        assert found is None or 0 <= found.start < found.end <= size


@pytest.mark.parametrize("given_etags", [f'"{ETAG}"', f'W/"{ETAG}"', f'"a", W/"b" , "{ETAG}"', "*", " * "])
def test_who_has_it_need_not_get_it_again(given_etags: str) -> None:
    assert is_unchanged({"if-none-match": given_etags}, ETAG, MODIFIED)


@pytest.mark.parametrize("given_etags", ["", ETAG, '"other"', '"1f"', '"*"'])
def test_another_etag_is_another_file_whatever_the_date_says(given_etags: str) -> None:
    assert not is_unchanged({"if-none-match": given_etags, "if-modified-since": LATER}, ETAG, MODIFIED)


@pytest.mark.parametrize(
    ("date", "unchanged"),
    [
        (DATE, True),
        (LATER, True),
        ("Mon, 11 May 2026 21:14:26 -0000", True),
        (EARLIER, False),
        ("yesterday", False),
        ("", False),
        ("Mon, 11 May 99999 21:14:26 GMT", False),
        ("Mon, 11 May 2026 25:14:26 GMT", False),
        ("Mon, 11 May 2026 21:14:26 +9999999", False),
    ],
)
def test_dates_are_compared_by_the_second(date: str, *, unchanged: bool) -> None:
    assert is_unchanged({"if-modified-since": date}, ETAG, MODIFIED) is unchanged


@given(st.text(max_size=60))
def test_no_date_breaks_it(date: str) -> None:
    is_unchanged({"if-modified-since": date}, ETAG, MODIFIED)
