"""Clients that mean harm, or hang."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.integration.ops.feed.conftest import CONTENT, NO_PACKET, NO_SIGNATURE, V1, Put, told
from tests.waiting import wait_for


def asked(port: int, request: bytes) -> int:
    """The status of what is answered to raw bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request + b" HTTP/1.1\r\nHost: feed\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


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
