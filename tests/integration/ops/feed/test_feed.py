"""The feed as MetaBrainz serves it."""

import httpx
import pytest

from ops.wiring import Runtime
from tests.integration.ops.feed.conftest import CONTENT, NO_PACKET, NO_SIGNATURE, V1, V2, WRONG_TOKEN, Put, told
from tests.waiting import wait_for

KEEP = "private, max-age=31536000, immutable"
NO_TOKEN = "You need to provide an access token!\n"


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
