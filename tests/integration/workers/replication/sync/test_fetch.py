"""Downloads from servers that stall, lie, break off, and send elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from events.errors import UnreachableError, UsageError
from events.telemetry import NoTelemetry
from tests.integration.workers.replication.sync.feed_server import TOKEN, FeedServer, served
from tests.waiting import wait_for
from workers.replication.sync.core import RefusedError, parsed_base
from workers.replication.sync.fetch import Feed, FeedOptions, SpoolError, StoppedError
from workers.replication.sync.spool import Spool

V1, V2 = "replication-7.tar.bz2", "replication-7-v2.tar.bz2"
DATA = bytes(range(256)) * 4000

Make = Callable[..., Feed]


@pytest.fixture
def spool(feed: FeedServer, tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", feed.url)
    made.open()
    yield made
    made.close()


@pytest.fixture
def make(feed: FeedServer, spool: Spool) -> Iterator[Make]:
    made: list[Feed] = []

    def one(*, token: str | None = TOKEN, most: int = 1 << 30, stall: float = 5.0, signed: bool = False) -> Feed:
        options = FeedOptions("test", most, stall, signed=signed)
        made.append(Feed(parsed_base(feed.url), token, spool, options, NoTelemetry()))
        return made[-1]

    yield one
    for each in made:
        each.close()


def fetched(feed: Feed, number: int = 7) -> bytes:
    found = feed.packet(number)
    assert found is not None
    return found.path.read_bytes()


def test_what_the_feed_has_not_is_nothing_new(make: Make, feed: FeedServer) -> None:
    feed.newest = 6
    assert make().packet(7) is None
    feed.newest = -1
    assert make().packet(7) is None
    assert [each.name for each in feed.asked] == [V2, "replication-info"] * 2


@pytest.mark.parametrize("check", [None, "<!DOCTYPE html>", "OKAY"])
def test_a_wrong_address_is_no_feed_without_more(make: Make, feed: FeedServer, spool: Spool, check: str | None) -> None:
    feed.check = check
    with pytest.raises(RefusedError, match=f"There is no feed at {feed.url}.*Is the address right") as error:
        make().packet(7)
    assert TOKEN not in str(error.value)
    assert not spool.path("replication-check").exists()


@pytest.mark.parametrize("check", ["OK", "UNKNOWN no replication packets available", "CRITICAL Replication packet 3 …"])
def test_a_feed_that_says_how_it_is_has_no_more(make: Make, feed: FeedServer, check: str) -> None:
    feed.check = check
    assert make().packet(7) is None
    assert feed.asked[-1].name == "replication-check"


def test_a_feed_whose_packets_are_free_may_want_a_token_for_the_rest(make: Make, feed: FeedServer) -> None:
    feed.token, feed.check = None, "OK"
    feed.faults += [feed.status(404), feed.status(400)]
    assert make(token=None).packet(7) is None
    feed.faults += [feed.status(404), feed.status(400)]
    with pytest.raises(RefusedError, match=r"does not take the access token \(status 400\)"):
        make().packet(7)


@pytest.mark.parametrize("name", [V1.replace("7", "6"), V2.replace("7", "6")])
def test_a_folder_with_the_packet_that_the_mirror_has_is_believed(make: Make, feed: FeedServer, name: str) -> None:
    (feed.folder / name).write_bytes(DATA)
    assert make().packet(7) is None


@pytest.mark.parametrize("later", [8, 10])
def test_a_folder_that_has_later_packets_but_not_this_one_is_no_end(make: Make, feed: FeedServer, later: int) -> None:
    for number in (6, later):
        (feed.folder / f"replication-{number}.tar.bz2").write_bytes(DATA)
    with pytest.raises(RefusedError, match=f"has packet {later}, but not 7"):
        make().packet(7)


def test_a_feed_that_has_later_packets_but_not_this_one_is_no_end(make: Make, feed: FeedServer) -> None:
    feed.newest = 9
    with pytest.raises(RefusedError, match="has packet 9, but not 7, which is next for this mirror: it is too far"):
        make().packet(7)


def test_a_packet_that_comes_while_we_ask_is_taken(make: Make, feed: FeedServer) -> None:
    feed.newest = 7
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.status(404)]
    assert fetched(make()) == DATA


@pytest.mark.parametrize("newest", [None, 7])
def test_of_a_packet_that_comes_while_we_ask_version_2_is_taken(
    make: Make, feed: FeedServer, newest: int | None
) -> None:
    feed.newest = newest
    for name in (V1, V2):
        (feed.folder / name).write_bytes(DATA)
    # Both came just after the first question.
    feed.faults += [feed.status(404)]
    found = make().packet(7)
    assert found is not None
    assert found.path.name == V2


def test_version_1_is_taken_where_there_is_no_other(make: Make, feed: FeedServer) -> None:
    (feed.folder / V1).write_bytes(DATA)
    found = make().packet(7)
    assert found is not None
    assert found.path.name == V1
    assert [each.name for each in feed.asked] == [V2, "replication-info", V1, V2]


def test_a_server_that_fails_is_asked_again(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.status(500), feed.status(503, Retry_After="0"), feed.status(429)]
    assert fetched(make()) == DATA


def test_a_server_that_goes_on_failing_is_given_up(make: Make, feed: FeedServer) -> None:
    feed.faults += [feed.status(502)] * 9
    with pytest.raises(UnreachableError, match=f"did not give {V2} in 4 tries: .* answers with status 502"):
        make().packet(7)
    assert len(feed.asked) == 4


def test_a_server_that_wants_to_be_left_alone_for_long_is(make: Make, feed: FeedServer) -> None:
    feed.faults += [feed.status(503, Retry_After="9999")]
    with pytest.raises(UnreachableError, match="in 1 tries"):
        make().packet(7)


def test_nobody_there(make: Make, feed: FeedServer) -> None:
    reader = make()
    feed.close()
    with pytest.raises(UnreachableError, match="Connection refused"):
        reader.packet(7)


def test_a_download_that_breaks_off_goes_on_from_there(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.broken_off(300_000)]
    assert fetched(make()) == DATA
    assert feed.asked[1].headers["Range"] == "bytes=300000-"


def test_also_in_the_next_run(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.broken_off(300_000), *[feed.status(500)] * 3]
    with pytest.raises(UnreachableError):
        make().packet(7)
    assert fetched(make()) == DATA
    assert feed.asked[-1].headers["Range"] == "bytes=300000-"


def test_of_a_file_that_changed_meanwhile_nothing_is_kept(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.broken_off(300_000, etag='"another"')]
    assert fetched(make()) == DATA
    assert feed.asked[1].headers["If-Range"] == '"another"'


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"another"', "Content-Range": f"bytes 300000-{len(DATA) - 1}/{len(DATA)}"},
        {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"},
        {"Content-Range": f"bytes 300000-400000/{len(DATA) + 1}"},
        {},
    ],
)
def test_a_rest_that_is_none_is_not_put_behind(make: Make, feed: FeedServer, headers: dict[str, str]) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.broken_off(300_000), feed.status(206, **headers)]
    assert fetched(make()) == DATA


def test_a_file_that_goes_on_changing_is_given_up(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.broken_off(300_000), feed.status(416)] * 5
    with pytest.raises(UnreachableError, match="it is another file than before"):
        make().packet(7)


def test_a_server_that_promises_more_than_it_has_is_given_up(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.broken_off(1000)] * 9
    with pytest.raises(UnreachableError, match=f"did not give {V2} in 4 tries"):
        make().packet(7)


@pytest.mark.parametrize("after", [0, 1000])
def test_a_server_that_stalls_is_given_up(make: Make, feed: FeedServer, after: int) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.stall(after)] * 4
    with pytest.raises(UnreachableError, match=r"no data for 0\.1 s"):
        make(stall=0.1).packet(7)


def test_a_server_that_drips_is_given_up(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.drip()] * 4
    with pytest.raises(UnreachableError, match=r"bytes came in 0\.2 s"):
        make(stall=0.2).packet(7)


def test_a_packet_that_is_too_large_is_not_kept(make: Make, feed: FeedServer, spool: Spool) -> None:
    (feed.folder / V2).write_bytes(DATA)
    with pytest.raises(RefusedError, match=f"has {len(DATA):,} bytes; at most 1,000,000 bytes are taken.*PACKET_MB"):
        make(most=1_000_000).packet(7)
    feed.faults += [feed.endless()]
    with pytest.raises(RefusedError, match="does not end"):
        make(most=1_000_000).packet(7)
    assert not spool.part(V2).exists()


def test_a_token_that_is_not_taken_is_told(make: Make, feed: FeedServer) -> None:
    with pytest.raises(RefusedError, match=r"wants an access token \(status 400\): set REPLICATION_ACCESS_TOKEN"):
        make(token=None).packet(7)
    with pytest.raises(RefusedError, match=r"does not take the access token \(status 403\)"):
        make(token="wrong").packet(7)
    assert len(feed.asked) == 2


def test_a_strange_answer_is_refused(make: Make, feed: FeedServer) -> None:
    feed.faults += [feed.status(418)]
    with pytest.raises(RefusedError, match="status 418"):
        make().packet(7)


def test_the_token_goes_along_on_the_same_host_and_to_no_other(make: Make, feed: FeedServer, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / V2).write_bytes(DATA)
    with served(tmp_path / "bucket") as bucket:
        bucket.token = None
        feed.faults += [
            feed.status(302, Location=f"/somewhere/else/{V2}?a=b"),
            feed.status(302, Location=f"{bucket.url}/{V2}?X-Amz-Signature=abc"),
        ]
        assert fetched(make()) == DATA
        assert feed.asked[1].path == f"/somewhere/else/{V2}?a=b&token={TOKEN}"
        assert [each.path for each in bucket.asked] == [f"/api/musicbrainz/{V2}?X-Amz-Signature=abc"]
        assert TOKEN not in str(bucket.asked[0].headers)


def test_a_download_from_another_host_goes_on_there(make: Make, feed: FeedServer, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / V2).write_bytes(DATA)
    with served(tmp_path / "bucket") as bucket:
        bucket.token = None
        feed.faults += [feed.status(302, Location=f"{bucket.url}/{V2}")] * 3
        bucket.faults += [bucket.broken_off(500_000), bucket.status(403)]
        assert fetched(make()) == DATA
        assert bucket.asked[2].headers["Range"] == "bytes=500000-"


def test_redirects_that_lead_nowhere_are_refused(make: Make, feed: FeedServer) -> None:
    feed.faults += [feed.status(302, Location=f"/{V2}")] * 9
    with pytest.raises(RefusedError, match="redirects over 5 times"):
        make().packet(7)
    assert len(feed.asked) == 6


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://example.org/x", "to example.org without TLS"),
        (f"https://example.org/x?token={TOKEN}", "would give the access token away to example.org"),
        ("file:///etc/passwd", "no address of the web"),
    ],
)
def test_redirects_that_cannot_be_meant_are_refused(make: Make, feed: FeedServer, location: str, why: str) -> None:
    feed.faults += [feed.status(302, Location=location)]
    with pytest.raises(RefusedError, match=why) as refused:
        make().packet(7)
    assert TOKEN not in str(refused.value)
    assert len(feed.asked) == 1


def test_signatures_come_with_their_packets(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    found = make(signed=True).packet(7)
    assert found is not None
    assert found.signature is None
    (feed.folder / f"{V2}.asc").write_bytes(b"-----BEGIN")
    found = make(signed=True).packet(7)
    assert found is not None
    assert found.signature is not None
    assert found.signature.read_bytes() == b"-----BEGIN"


def test_who_waits_for_a_stalling_server_can_be_ended(make: Make, feed: FeedServer) -> None:
    (feed.folder / V2).write_bytes(DATA)
    feed.faults += [feed.stall(1000)]
    reader = make(stall=60)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            reader.packet(7)
        except StoppedError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: reader._current is not None)
    began = time.monotonic()
    reader.end()
    thread.join(10)
    assert ended
    assert time.monotonic() - began < 5


def test_a_spool_without_room_is_told(make: Make, feed: FeedServer, spool: Spool) -> None:
    (feed.folder / V2).write_bytes(DATA)
    spool.part(V2).mkdir()
    with pytest.raises(SpoolError, match="Packet 7 could not be kept in the spool: Is a directory"):
        make().packet(7)


def test_a_spool_serves_one_process_and_one_feed(make: Make, feed: FeedServer, spool: Spool, tmp_path: Path) -> None:
    (feed.folder / V2).write_bytes(DATA)
    make().packet(7)
    other = Spool(tmp_path / "spool", "https://another.example")
    with pytest.raises(UsageError, match="Another process uses the folder"):
        other.open()
    assert spool.has(V2)
    assert not other.has(V2)
    spool.tidy(7)
    assert not spool.has(V2)
