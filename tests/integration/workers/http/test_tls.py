"""Over TLS: who answers has to prove who it is, and HTTP/2 is spoken where it is offered."""

import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.certificates import certificate
from tests.integration.workers.http.hostile import Script, answers, hostile, is_silent
from tests.integration.workers.http.making import Make, kind
from workers.http.core import Answer, Failure, Kind

KEEPS_AFTER = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def server_side(path: Path, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.set_alpn_protocols(list(protocols))
    return context


@pytest.mark.parametrize(
    ("name", "trusted", "why"),
    [("127.0.0.1", True, ""), ("127.0.0.1", False, "self-signed"), ("127.0.0.2", True, "IP address mismatch")],
)
def test_nothing_is_sent_to_a_server_that_does_not_prove_who_it_is(
    client: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool, why: str
) -> None:
    path = certificate(tmp_path, name)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with hostile(answers(), tls=server_side(path, "http/1.1")) as server:
        outcome = client().get(server.url, headers={"Authorization": "secret"})
        if not why:
            assert isinstance(outcome, Answer)
            return
        assert isinstance(outcome, Failure)
        assert outcome.kind is Kind.TLS
        assert why in outcome.message
        assert server.requests == []


def test_authorities_that_cannot_be_read_are_an_outcome(
    client: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "absent", tmp_path, tmp_path / "empty"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        outcome = client().get("https://127.0.0.1:1/")
        assert isinstance(outcome, Failure)
        assert outcome.kind is Kind.TLS
        assert "SSL_CERT_FILE" in outcome.message


def test_a_server_that_speaks_no_tls_is_told(client: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def serve() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.sendall(b"220 smtp.example ESMTP\r\n")
                connection.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        assert kind(client().get(f"https://127.0.0.1:{plain.getsockname()[1]}/")) is Kind.TLS


def test_a_handshake_that_does_not_end_does_not_outlive_the_deadline(client: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        assert kind(client(deadline=0.3).get(url)) is Kind.DEADLINE


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    path = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return server_side(path, "h2")


def speaks_h2(
    *,
    body: bytes = b"",
    length: int | None = None,
    status: str = "200",
    ends: bool = True,
    resets: bool = False,
    leaves: bool = False,
    done: threading.Event | None = None,
) -> Script:
    """Answers each request with its path, or `body`; until `done`."""

    def script(connection: socket.socket) -> object:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        connection.sendall(state.data_to_send())
        # The preface was taken for a request.
        got = KEEPS_AFTER
        while got:
            for event in state.receive_data(got):
                if isinstance(event, h2.events.RequestReceived) and leaves:
                    state.close_connection(last_stream_id=0)
                    connection.sendall(state.data_to_send())
                    return None
                if isinstance(event, h2.events.RequestReceived):
                    headers = dict(event.headers)
                    said = body or headers[b":path"]
                    size = len(said) if length is None else length
                    state.send_headers(event.stream_id, [(":status", status), ("content-length", str(size))])
                    if resets:
                        state.reset_stream(event.stream_id)
                        continue
                    state.send_data(event.stream_id, said, end_stream=ends)
            connection.sendall(state.data_to_send())
            if done is not None and state.highest_inbound_stream_id:
                done.wait(10)
                return None
            got = connection.recv(65536)
        return None

    return script


def test_http_2_is_spoken_where_it_is_offered(client: Make, trusted: ssl.SSLContext) -> None:
    with hostile(speaks_h2(), tls=trusted) as server:
        one = client()
        for path in ("/a", "/b"):
            answer = one.get(server.url + path)
            assert isinstance(answer, Answer)
            assert answer.body == path.encode()
        assert server.lines() == ["PRI * HTTP/2.0"]
        assert server.connections == 1


def test_a_server_that_goes_away_is_asked_again(client: Make, trusted: ssl.SSLContext) -> None:
    with hostile(speaks_h2(leaves=True), speaks_h2(), tls=trusted) as server:
        answer = client().get(f"{server.url}/again")
        assert isinstance(answer, Answer)
        assert answer.body == b"/again"


def test_connections_that_the_server_closed_meanwhile_cost_no_try(client: Make, trusted: ssl.SSLContext) -> None:
    done, together = threading.Event(), threading.Barrier(3)
    closing = speaks_h2(done=done)

    def at_once(connection: socket.socket) -> object:
        together.wait(10)
        return closing(connection)

    with hostile(at_once, at_once, at_once, speaks_h2(), tls=trusted) as server:
        one = client()
        threads = [threading.Thread(target=one.get, args=(server.url,)) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(10)
        assert server.connections == 3
        done.set()
        server.wait_for_the_end_of(3)
        # As many as there are tries.
        assert isinstance(one.request("DELETE", server.url), Answer)
        assert server.connections == 4


@pytest.mark.parametrize(
    "frame", [b"\0\0\x08\6\0\0\0\0\0" + bytes(8), b"\0\0\0\x50\0\0\0\0\0"], ids=["ping", "unknown"]
)
def test_frames_without_end_do_not_outlive_the_deadline(client: Make, trusted: ssl.SSLContext, frame: bytes) -> None:
    def floods(connection: socket.socket) -> object:
        connection.sendall(b"\0\0\0\4\0\0\0\0\0")
        while True:
            connection.sendall(frame * 1000)

    with hostile(floods, tls=trusted) as server:
        began = time.monotonic()
        assert kind(client(deadline=0.3).get(server.url)) is Kind.DEADLINE
        assert time.monotonic() - began < 1


def test_threads_never_get_each_others_answers(client: Make, trusted: ssl.SSLContext) -> None:
    with hostile(speaks_h2(), tls=trusted) as server:
        one, wrong = client(deadline=20), []

        def ask(n: int) -> None:
            for m in range(10):
                answer = one.get(f"{server.url}/{n}/{m}")
                if not isinstance(answer, Answer) or answer.body != f"/{n}/{m}".encode():
                    wrong.append(answer)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        assert wrong == []


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        (speaks_h2(body=b"hello", length=3), Kind.PROTOCOL),
        (speaks_h2(body=b"hello", length=50), Kind.PROTOCOL),
        (speaks_h2(body=b"hello", length=50, ends=False), Kind.DEADLINE),
        (speaks_h2(resets=True), Kind.TRUNCATED),
        (speaks_h2(leaves=True), Kind.CONNECTION),
        (speaks_h2(status="4200000"), Kind.PROTOCOL),
        (speaks_h2(status="-5"), Kind.PROTOCOL),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n") or is_silent(connection), Kind.CONNECTION),
    ],
    ids=[
        "more than its length",
        "less than its length",
        "never ends",
        "reset",
        "goes away",
        "no status",
        "less than a status",
        "no HTTP/2, then closed",
    ],
)
def test_what_goes_wrong_over_http_2_is_one_clear_outcome_too(
    client: Make, trusted: ssl.SSLContext, script: Script, wanted: Kind
) -> None:
    with hostile(script, tls=trusted) as server, suppress(ConnectionError):
        assert kind(client(deadline=0.5 if wanted is Kind.DEADLINE else 10).get(server.url)) is wanted
