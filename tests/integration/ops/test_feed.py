"""The feed as MetaBrainz serves it, really served over HTTP."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from ops.settings import Settings
from ops.wiring import Runtime
from tests.waiting import wait_for

V1, V2 = "replication-7.tar.bz2", "replication-7-v2.tar.bz2"
CONTENT = bytes(range(256)) * 4000
KEEP = "private, max-age=31536000, immutable"
NO_PACKET = "Can't find specified replication packet!\n"
NO_SIGNATURE = "Can't find signature for a specified replication packet!\n"
NO_TOKEN = "You need to provide an access token!\n"
WRONG_TOKEN = "Provided access token is invalid!\n"

Put = Callable[..., None]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"packet_store": f"file://{tmp_path}/packets"})


@pytest.fixture
def put(runtime: Runtime, tmp_path: Path) -> Put:
    def put_into_store(name: str, content: bytes = CONTENT, *, hours: float = 0) -> None:
        (tmp_path / "source").write_bytes(content)
        runtime.packet_store.put(name, tmp_path / "source")
        if hours:
            moment = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
            os.utime(tmp_path / "packets" / name, (moment, moment))

    return put_into_store


@pytest.fixture
def token(runtime: Runtime) -> str:
    return runtime.feed_tokens.create("alice")


@pytest.fixture
def anybody(port: int) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/musicbrainz", timeout=30) as client:
        yield client


@pytest.fixture
def alice(anybody: httpx.Client, token: str) -> httpx.Client:
    """A client with a token."""
    anybody.params = anybody.params.set("token", token)
    return anybody


def asked(port: int, request: bytes) -> int:
    """The status of what is answered to raw bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request + b" HTTP/1.1\r\nHost: feed\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.text


# What is where


@pytest.mark.parametrize("name", [V1, V2])
def test_a_packet_is_served_with_all_that_a_cache_needs(alice: httpx.Client, put: Put, name: str) -> None:
    put(name)
    answer = alice.get(f"/{name}")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "application/x-tar-bz2"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["cache-control"] == KEEP
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"].startswith('"')
    assert answer.headers["last-modified"].endswith(" GMT")


def test_its_signature_is_text(alice: httpx.Client, put: Put) -> None:
    put(f"{V2}.asc", b"-----BEGIN PGP SIGNATURE-----\n")
    answer = alice.get(f"/{V2}.asc")
    assert told(answer) == (200, "-----BEGIN PGP SIGNATURE-----\n")
    assert answer.headers["content-type"].partition(";")[0] == "text/plain"


def test_digests_are_served_beside_them(alice: httpx.Client, put: Put) -> None:
    put("digest-7.json", b'{"a": 1}')
    answer = alice.get("/digest-7.json")
    assert (answer.json(), answer.headers["content-type"]) == ({"a": 1}, "application/json")
    assert told(alice.get("/digest-8.json")) == (404, "Can't find specified digest!\n")


def test_what_is_not_there_is_told_in_the_words_that_readers_know(alice: httpx.Client, put: Put) -> None:
    put(V1)
    for name in ("replication-8.tar.bz2", V2, "replication-8-v2.tar.bz2"):
        assert told(alice.get(f"/{name}")) == (404, NO_PACKET)
        assert told(alice.get(f"/{name}.asc")) == (404, NO_SIGNATURE)
    assert alice.get("/replication-8.tar.bz2").headers["cache-control"] == "no-store"
    assert told(alice.get(f"/{V1}.asc")) == (404, NO_SIGNATURE)


def test_info_names_the_newest_packet_by_number_as_version_1_does(alice: httpx.Client, put: Put) -> None:
    answer = alice.get("/replication-info")
    assert (answer.status_code, answer.text) == (200, '{"last_packet": null}')
    for name in ("replication-9.tar.bz2", "replication-10-v2.tar.bz2", "replication-9-v2.tar.bz2", "digest-11.json"):
        put(name, b"x")
    wait_for(lambda: alice.get("/replication-info").text == '{"last_packet": "replication-10.tar.bz2"}')
    assert alice.get("/replication-info").headers["content-type"] == "application/json"


def test_anybody_may_check(anybody: httpx.Client, put: Put) -> None:
    def says(text: str) -> bool:
        answer = anybody.get("/replication-check")
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] == "text/plain"
        return answer.text == text

    assert says("UNKNOWN no replication packets available")
    put(V1, b"x", hours=7.5)
    wait_for(lambda: says("CRITICAL Latest replication packet is 7.5 hours old"))
    put("replication-8-v2.tar.bz2", b"x", hours=2.3)
    wait_for(lambda: says("WARNING Latest replication packet is 2.3 hours old"))
    put("replication-9.tar.bz2", b"x")
    wait_for(lambda: says("CRITICAL Replication packet 8 is missing"))
    put("replication-8.tar.bz2", b"x")
    wait_for(lambda: says("OK"))


# Tokens


def test_without_a_token_nothing_is_told_not_even_what_is_there(anybody: httpx.Client, put: Put) -> None:
    put(V1)
    for path in ("/replication-info", f"/{V1}", f"/{V1}.asc", "/replication-8.tar.bz2", "/digest-7.json"):
        for given, status, text in (
            ({}, 400, NO_TOKEN),
            ({"token": ""}, 400, NO_TOKEN),
            ({"token": "x" * 40}, 403, WRONG_TOKEN),
            ({"token": "short"}, 403, WRONG_TOKEN),
            ({"token": "é" * 40}, 403, WRONG_TOKEN),
        ):
            answer = anybody.get(path, params=given)
            assert told(answer) == (status, text), (path, given)
            assert answer.headers["cache-control"] == "no-store"
            head = anybody.head(path, params=given)
            assert (told(head), head.headers["content-length"]) == ((status, ""), str(len(text)))


def test_of_several_tokens_the_first_counts(anybody: httpx.Client, put: Put, token: str) -> None:
    put(V1)
    wrong = "x" * 40
    assert anybody.get(f"/{V1}?token={token}&token={wrong}").status_code == 200
    assert anybody.get(f"/{V1}?token={wrong}&token={token}").status_code == 403
    assert anybody.get(f"/{V1}?token=&token={token}").status_code == 400


def test_a_revoked_token_opens_nothing_within_seconds(alice: httpx.Client, runtime: Runtime, put: Put) -> None:
    put(V1)
    assert alice.get(f"/{V1}").status_code == 200
    runtime.feed_tokens.revoke("alice")
    wait_for(lambda: told(alice.get(f"/{V1}")) == (403, WRONG_TOKEN), seconds=4)


def test_requests_are_counted_by_the_name_of_the_token_and_never_by_itself(
    alice: httpx.Client, put: Put, port: int, token: str
) -> None:
    put(V1)
    alice.get(f"/{V1}")
    alice.get(f"/{V1}.asc")
    alice.get(f"/{V1}", params={"token": "x" * 40})
    page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    for labels in (
        'status="200",token="alice",what="packet"',
        'status="404",token="alice",what="signature"',
        'status="403",token="",what="packet"',
    ):
        assert f"mbevents_feed_requests_total{{{labels}}} 1.0" in page
    assert token not in page


# Parts, and what is known already


def test_a_download_goes_on_where_it_stopped(alice: httpx.Client, put: Put) -> None:
    put(V1)
    etag = alice.head(f"/{V1}").headers["etag"]
    answer = alice.get(f"/{V1}", headers={"Range": "bytes=1000000-", "If-Range": etag})
    assert (answer.status_code, answer.content) == (206, CONTENT[1_000_000:])
    assert answer.headers["content-range"] == f"bytes 1000000-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(len(CONTENT) - 1_000_000)
    put(V1, b"another")
    answer = alice.get(f"/{V1}", headers={"Range": "bytes=3-", "If-Range": etag})
    assert (answer.status_code, answer.content) == (200, b"another")


def test_ranges_are_heeded_as_far_as_they_are_one(alice: httpx.Client, put: Put) -> None:
    put(V1)
    for header, status, content in (
        ("bytes=0-0", 206, CONTENT[:1]),
        ("bytes=-5", 206, CONTENT[-5:]),
        (f"bytes=5-{10**18}", 206, CONTENT[5:]),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(2000)), 200, CONTENT),
        ("bytes=-", 200, CONTENT),
        ("bytes=9-3", 200, CONTENT),
        ("lines=1-2", 200, CONTENT),
    ):
        answer = alice.get(f"/{V1}", headers={"Range": header})
        assert (answer.status_code, answer.content == content) == (status, True), header


def test_a_range_beyond_the_end_is_refused_with_the_size(alice: httpx.Client, put: Put) -> None:
    put(V1)
    for header in (f"bytes={len(CONTENT)}-", "bytes=-0", f"bytes={'9' * 20}-"):
        answer = alice.get(f"/{V1}", headers={"Range": header})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}"), header


def test_what_a_client_has_is_not_sent_again(alice: httpx.Client, put: Put) -> None:
    put(V1)
    first = alice.get(f"/{V1}")
    for headers in (
        {"If-None-Match": first.headers["etag"]},
        {"If-None-Match": f'"x", W/{first.headers["etag"]}'},
        {"If-Modified-Since": first.headers["last-modified"]},
        {"If-None-Match": "*", "Range": "bytes=0-5"},
    ):
        for answer in (alice.get(f"/{V1}", headers=headers), alice.head(f"/{V1}", headers=headers)):
            assert (answer.status_code, answer.content) == (304, b"")
            assert (answer.headers["etag"], answer.headers["cache-control"]) == (first.headers["etag"], KEEP)
    stale = {"If-None-Match": '"x"', "If-Modified-Since": first.headers["last-modified"]}
    assert alice.get(f"/{V1}", headers=stale).status_code == 200


def test_head_tells_what_get_would_without_sending_it(alice: httpx.Client, put: Put) -> None:
    put(V1)
    for path in (f"/{V1}", "/replication-info", "/replication-check", "/replication-9.tar.bz2"):
        head, get = alice.head(path), alice.get(path)
        assert head.content == b""
        assert head.status_code == get.status_code
        same = {name: value for name, value in get.headers.items() if name != "date"}
        assert {name: value for name, value in head.headers.items() if name != "date"} == same
    assert alice.head(f"/{V1}", headers={"Range": "bytes=0-5"}).status_code == 200


# Who means harm


def test_numbers_that_no_packet_has_are_only_missing(alice: httpx.Client, put: Put) -> None:
    put(V1)
    for number in ("007", "9" * 20, "9" * 6000):
        for name in (f"replication-{number}.tar.bz2", f"replication-{number}-v2.tar.bz2"):
            assert told(alice.get(f"/{name}")) == (404, NO_PACKET)
            assert told(alice.get(f"/{name}.asc")) == (404, NO_SIGNATURE)


def test_nothing_else_is_found(port: int, token: str, put: Put) -> None:
    put(V1)
    for target in (
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..\\..\\etc\\passwd",
        "replication-7.tar.bz2/../../source",
        "replication-7.tar.bz2%00",
        "replication-7.tar.bz2%0a",
        "replication-7.tar.bz2%2f",
        "replication-%d9%a7.tar.bz2",
        "replication-%ff.tar.bz2",
        "%ff%fe",
        "replication--7.tar.bz2",
        "replication-7-v3.tar.bz2",
        "replication-7.tar.bz2.asc.asc",
        ".replication-7.tar.bz2.part",
        "",
        "/",
    ):
        assert asked(port, f"GET /api/musicbrainz/{target}?token={token}".encode()) == 404, target


def test_what_makes_no_sense_is_refused_and_the_next_is_answered(anybody: httpx.Client, port: int, put: Put) -> None:
    put(V1)
    packet = f"/api/musicbrainz/{V1}".encode()
    for request, status in (
        (b"GET " + packet + b"?token=\xff\xfe", 400),
        (b"GET /api/musicbrainz/replication-\xff.tar.bz2", 400),
        (b"GET " + packet + b"?token=%ff%fe", 403),
        (b"GET " + packet + b"?" + b"token=x&" * 5000, 403),
        (b"GET " + packet + b"?%00=%00&;;&&==&", 400),
        (b"POST " + packet, 405),
        (b"DELETE " + packet, 405),
    ):
        assert asked(port, request) == status, request[:100]
        assert anybody.get("/replication-check").text == "OK"


def test_no_redirect_repeats_the_token(alice: httpx.Client) -> None:
    for path in ("/replication-info/", f"/{V1}/"):
        answer = alice.get(path)
        assert answer.status_code == 404
        assert "location" not in answer.headers


def test_who_hangs_up_in_the_middle_leaves_nothing_behind(alice: httpx.Client, port: int, token: str, put: Put) -> None:
    put(V1, CONTENT * 20)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET /api/musicbrainz/{V1}?token={token} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    open_files = Path("/proc/self/fd")
    wait_for(lambda: not [fd for fd in open_files.iterdir() if fd.exists() and fd.resolve().name == V1])
    assert alice.get(f"/{V1}").content == CONTENT * 20


# What is away


def test_a_database_that_is_away_is_told_and_found_again(
    alice: httpx.Client, settings: Settings, runtime: Runtime, put: Put
) -> None:
    put(V1)
    assert alice.get(f"/{V1}").status_code == 200
    with psycopg.connect(runtime.database_url) as connection:
        name = connection.info.dbname
    with psycopg.connect(runtime.database_url.replace(name, "postgres"), autocommit=True) as connection:
        closed = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(closed.format(sql.Identifier(name), sql.Literal(False)))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        wait_for(lambda: alice.get(f"/{V1}").status_code == 503, seconds=20)
        answer = alice.get(f"/{V1}")
        assert told(answer) == (503, "The feed cannot reach its database or its packets now. Try again later.\n")
        assert int(answer.headers["retry-after"]) > 0
        assert alice.get("/replication-check").text == "OK"
        connection.execute(closed.format(sql.Identifier(name), sql.Literal(True)))
    wait_for(lambda: alice.get(f"/{V1}").status_code == 200, seconds=20)


def test_a_database_without_our_tables_is_no_traceback(alice: httpx.Client, runtime: Runtime, put: Put) -> None:
    put(V1)
    with runtime.connection() as connection:
        connection.execute("DROP TABLE mbevents.feed_token")
    wait_for(lambda: alice.get(f"/{V1}").status_code == 503)


def test_a_store_that_cannot_be_read_is_told(alice: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "packets").write_text("a file, not a folder")
    for path in ("/replication-check", "/replication-info", f"/{V1}"):
        assert alice.get(path).status_code == 503


# Packets in S3


@pytest.fixture
def in_s3(bucket: str, settings: Settings, runtime: Runtime) -> str:
    """Has the feed's packets in a bucket."""
    runtime.settings = settings.model_copy(update={"packet_store": f"s3://{bucket}/packets"})
    return bucket


@pytest.mark.usefixtures("in_s3")
class TestInS3:
    def test_a_client_with_a_token_is_sent_to_the_bucket(self, alice: httpx.Client, put: Put, token: str) -> None:
        put(V2)
        answer = alice.get(f"/{V2}")
        assert (answer.status_code, answer.headers["cache-control"]) == (302, "no-store")
        assert token not in answer.headers["location"]
        assert httpx.get(answer.headers["location"]).content == CONTENT
        part = httpx.get(answer.headers["location"], headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, CONTENT[5:10])

    def test_all_else_is_answered_here(self, alice: httpx.Client, put: Put) -> None:
        put(V2)
        head = alice.head(f"/{V2}")
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
        assert alice.get(f"/{V2}", headers={"If-None-Match": head.headers["etag"]}).status_code == 304
        assert told(alice.get(f"/{V1}")) == (404, NO_PACKET)
        assert told(alice.get(f"/{V2}", params={"token": "x" * 40})) == (403, WRONG_TOKEN)
        wait_for(lambda: alice.get("/replication-info").text == '{"last_packet": "replication-7.tar.bz2"}')
        wait_for(lambda: alice.get("/replication-check").text == "OK")

    def test_a_bucket_that_is_gone_is_told(self, alice: httpx.Client, in_s3: str) -> None:
        import boto3

        boto3.session.Session().client("s3").delete_bucket(Bucket=in_s3)
        assert alice.get("/replication-check").status_code == 503


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_web_process_ends_though_a_client_does_not_read(
    closing: ExitStack, port: int, token: str, put: Put
) -> None:
    """That it ends within 10 s is asserted by `port`, which comes to its end before `closing` does."""
    put(V1, CONTENT * 20)
    connection = closing.enter_context(socket.create_connection(("127.0.0.1", port)))
    connection.sendall(f"GET /api/musicbrainz/{V1}?token={token} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
