"""Connections that are used again: what a server says too much on one is nobody's answer."""

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from tests.certificates import certificate
from tests.integration.workers.http.hostile import KEEP, answers, hostile
from tests.integration.workers.http.making import Make, kind
from tests.waiting import wait_for
from workers.http.core import Answer, Kind, Outcome

FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


def is_right(outcome: Outcome) -> bool:
    return isinstance(outcome, Answer) and outcome.body == b"right"


def right(connection: socket.socket) -> object:
    return answers(b"right")(connection)


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Used again at once."""
    monkeypatch.setattr("workers.http.adapters._REST_SECONDS", 0.0)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("more", [FORGED, b"x"], ids=["an answer", "a byte"])
def test_what_a_server_says_unasked_is_nobodys_answer(
    client: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over_tls: bool, more: bytes
) -> None:
    tls, go, said = None, threading.Event(), threading.Event()
    if over_tls:
        path = certificate(tmp_path, "127.0.0.1")
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(path)

    def talkative(connection: socket.socket) -> object:
        right(connection)
        go.wait(10)
        # Held back by the system until what was sent before is acknowledged.
        connection.sendall(more)
        said.set()
        return KEEP

    with hostile(right, talkative, right, tls=tls) as server:
        one = client()
        assert is_right(one.get(server.url))
        assert is_right(one.get(server.url))
        assert server.connections == 1
        go.set()
        assert said.wait(10)
        assert is_right(one.get(server.url))
        assert server.connections == 2


def test_a_connection_rests_before_it_is_used_again(client: Make) -> None:
    with hostile(right) as server:
        one = client()
        for _ in range(2):
            assert is_right(one.get(server.url))
        assert server.connections == 2
        over = time.monotonic() + 0.1
        wait_for(lambda: time.monotonic() > over)
        assert is_right(one.get(server.url))
        assert server.connections == 2


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified"])
def test_what_comes_with_an_answer_and_is_none_of_it_is_a_failure(client: Make, status: str) -> None:
    def script(connection: socket.socket) -> object:
        length = "5\r\n\r\nright" if status.startswith("200") else "0\r\n\r\n"
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {length}".encode() + FORGED)
        return KEEP

    with hostile(script, right) as server:
        one = client()
        assert kind(one.get(server.url)) is Kind.BAD_LENGTH
        assert is_right(one.get(server.url))


@pytest.mark.usefixtures("restless")
def test_a_post_does_not_use_a_connection_that_may_just_be_closing(client: Make) -> None:
    with hostile(answers()) as server:
        calls = client()
        assert isinstance(calls.get(server.url), Answer)
        assert isinstance(calls.get(server.url), Answer)
        assert server.connections == 1
        assert isinstance(calls.post(server.url, b"{}"), Answer)
        assert server.connections == 2
