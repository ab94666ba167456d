"""Where a token may go, what answers mean, and which tables are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.replication.sync import core
from workers.replication.sync.core import Answer, Begun, Filters, Origin, Pass, RefusedError, Verdict

FEED = Origin("https", "metabrainz.org", 443)
BASE = core.parsed_base("https://metabrainz.org/api/musicbrainz/")
TOKEN = "a" * 40


@pytest.mark.parametrize("text", ["https://metabrainz.org/api/musicbrainz/", "https://metabrainz.org/api/musicbrainz"])
def test_a_feed_s_address_is_what_goes_before_a_packet_s_name(text: str) -> None:
    assert core.parsed_base(text).url == "https://metabrainz.org/api/musicbrainz"


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000", "http://localhost/x", "http://[::1]:8000/api/musicbrainz"])
def test_this_machine_may_be_asked_in_the_clear(text: str) -> None:
    assert core.parsed_base(text).origin.is_loopback


@pytest.mark.parametrize(
    "text",
    [
        "",
        "metabrainz.org",
        "ftp://metabrainz.org",
        "https://",
        "https://host:x/",
        "https://host:99999/",
        "http://metabrainz.org/api/musicbrainz",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://192.168.1.1/",
        f"https://metabrainz.org/?token={TOKEN}",
        f"https://{TOKEN}@metabrainz.org/",
        f"https://u:{TOKEN}@metabrainz.org/",
        f"https://metabrainz.org/#{TOKEN}",
    ],
)
def test_other_addresses_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(ValueError, match="it ") as refused:
        core.parsed_base(text)
    assert TOKEN not in str(refused.value)


HOSTS = st.sampled_from(["metabrainz.org", "metabrainz.org.evil.example", "evil.example", "METABRAINZ.org"])
PREFIXES = st.sampled_from(["https://", "http://", "//", "ftp://", "https://user@", "https://metabrainz.org@"])
PATHS = st.sampled_from(["", "/", "/x?a=b", f"/x?token={TOKEN}", "/x?token=other&a=b", ":8443/x", "?x", "#y"])


@given(PREFIXES, HOSTS, PATHS, st.integers(0, 6))
def test_the_token_goes_to_its_own_host_only_and_never_in_the_clear(
    prefix: str, host: str, path: str, hops: int
) -> None:
    try:
        hop = core.next_hop(BASE, f"{BASE.url}/x", prefix + host + path, hops=hops, token=TOKEN)
    except RefusedError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert TOKEN not in refusal
    if refusal:
        return
    origin = core.parsed_origin(hop.url)
    assert origin.scheme == "https"
    assert hop.with_token == (origin == FEED)
    # It is put in by whoever asks, and only where it is said to.
    assert TOKEN not in hop.url
    assert hops < core.MAX_REDIRECTS


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.WHOLE),
        (404, Verdict.MISSING),
        (408, Verdict.AGAIN),
        (429, Verdict.AGAIN),
        (500, Verdict.AGAIN),
        (503, Verdict.AGAIN),
    ],
)
def test_what_an_answer_means(status: int, verdict: Verdict) -> None:
    assert core.verdict(Answer(FEED, status), Begun(), has_token=True) is verdict


@pytest.mark.parametrize("status", [206, 304, 301, 400, 401, 403, 410, 416])
def test_answers_that_make_no_sense_or_refuse_are_told(status: int) -> None:
    with pytest.raises(RefusedError, match=str(status)):
        core.verdict(Answer(FEED, status), Begun(), has_token=True)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_where_the_feed_sent_us_for_a_while_is_not_the_feed(status: int) -> None:
    answer = Answer(Origin("https", "bucket.example", 443), status, elsewhere=True)
    assert core.verdict(answer, Begun(), has_token=True) is Verdict.AGAIN


BEGUN = Begun(100, '"tag"', 300)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(FEED, 206, etag='"tag"', content_range="bytes 100-299/300"), Verdict.REST),
        (Answer(FEED, 206, content_range="bytes 100-299/*"), Verdict.REST),
        (Answer(FEED, 206, etag='"other"', content_range="bytes 100-299/300"), Verdict.AFRESH),
        (Answer(FEED, 206, etag='"tag"', content_range="bytes 99-299/300"), Verdict.AFRESH),
        (Answer(FEED, 206, etag='"tag"', content_range="bytes 100-299/301"), Verdict.AFRESH),
        (Answer(FEED, 206, etag='"tag"', content_range="100-299"), Verdict.AFRESH),
        (Answer(FEED, 206, etag='"tag"'), Verdict.AFRESH),
        (Answer(FEED, 416), Verdict.AFRESH),
        (Answer(FEED, 200, etag='"other"'), Verdict.WHOLE),
    ],
)
def test_only_the_rest_of_the_same_file_is_put_behind_what_is_here(answer: Answer, verdict: Verdict) -> None:
    assert core.verdict(answer, BEGUN, has_token=True) is verdict


@pytest.mark.parametrize("begun", [Begun(), Begun(0, '"tag"'), Begun(100, None), Begun(100, 'W/"tag"')])
def test_the_rest_is_asked_for_only_where_it_can_be_told_from_another_file(begun: Begun) -> None:
    assert begun.headers == {}
    assert BEGUN.headers == {"Range": "bytes=100-", "If-Range": '"tag"'}


@pytest.mark.parametrize(
    ("info", "newest"),
    [
        (b'{"last_packet": "replication-100000.tar.bz2"}', 100000),
        (b'{"last_packet": "replication-7-v2.tar.bz2", "more": 1}', 7),
        (b'{"last_packet": null}', -1),
        (b'{"last_packet": 7}', None),
        (b'{"last_packet": "../../etc"}', None),
        (b"[]", None),
        (b"<html>", None),
    ],
)
def test_what_a_feed_says_that_it_has(info: bytes, newest: int | None) -> None:
    assert core.newest_of(info) == newest


def test_tries_end_and_a_server_is_obeyed_within_reason() -> None:
    delays = [core.retry_delay(attempt, None) for attempt in range(4)]
    assert delays == [*core.DELAYS, None]
    assert core.retry_delay(0, "30") == 30.0
    assert core.retry_delay(0, "0") == core.DELAYS[0]
    assert core.retry_delay(0, "Wed, 21 Oct 2026 07:28:00 GMT") == core.DELAYS[0]
    assert core.retry_delay(0, "86400") is None


def test_a_mirror_keeps_what_its_filters_say() -> None:
    filters = core.parsed_filters(
        ignore_schemas="statistics, wikidocs", ignore_tables='musicbrainz."📜",musicbrainz.tag', keep_tables=None
    )
    assert filters.wanted("musicbrainz.artist")
    assert filters.wanted("musicbrainz.tag_relation")
    assert not filters.wanted("musicbrainz.tag")
    assert not filters.wanted('musicbrainz."📜"')
    assert not filters.wanted("statistics.statistic")
    only = core.parsed_filters(ignore_schemas=None, ignore_tables=None, keep_tables="musicbrainz.artist")
    assert only.wanted("musicbrainz.artist")
    assert not only.wanted("musicbrainz.label")


@given(st.sets(st.sampled_from(["musicbrainz.replication_control", "musicbrainz.artist"])))
def test_the_row_that_says_where_a_mirror_is_cannot_be_left_out(names: set[str]) -> None:
    assert Filters(frozenset({"musicbrainz"}), frozenset(names), frozenset(names)).wanted(core.CONTROL)


@pytest.mark.parametrize("text", ["artist", "musicbrainz.", "a.b.c", "musicbrainz.artist label", ".x"])
def test_a_list_of_tables_needs_their_schemas(text: str) -> None:
    with pytest.raises(ValueError, match="list of tables with their schemas"):
        core.listed_tables(text)


def test_passes_add_up() -> None:
    whole = Pass()
    whole.add(Pass(first=3, last=5, packets=2, changes=10, seconds=1.0))
    whole.add(Pass(first=5, last=6, packets=1, changes=5, seconds=1.0, up_to_date=True, lag_seconds=2.0))
    assert (whole.first, whole.last, whole.packets, whole.changes, whole.up_to_date) == (3, 6, 3, 15, True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0.0 s"), (5, "5.0 s"), (119, "2 min"), (7200, "2.0 h"), (200_000, "2.3 d")]
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert core.span(seconds) == text
