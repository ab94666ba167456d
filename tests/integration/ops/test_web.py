import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from email.message import Message

import pytest
from prometheus_client.parser import text_string_to_metric_families

from events.errors import UsageError
from ops.service import Service
from ops.settings import Settings
from ops.web import address, server
from ops.wiring import Runtime
from tests.ports import free_port


def get(port: int, path: str) -> tuple[int, bytes, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers["Content-Type"]


def test_the_web_process_is_alive_and_ready(port: int) -> None:
    assert get(port, "/healthz")[0] == 200
    status, body, _ = get(port, "/readyz")
    assert (status, json.loads(body)["status"]) == (200, "ready")


def test_a_connection_that_is_kept_is_answered_without_delay(port: int) -> None:
    """Each answer would wait 40 ms for an acknowledgement if the system gathered what is written."""
    took = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for _ in range(60):
        began = time.monotonic()
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        took.append(time.monotonic() - began)
    connection.close()
    assert sorted(took)[20] < 0.03


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_monitors_may_ask_without_wanting_the_answers_body(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("HEAD", path)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.close()


@pytest.mark.parametrize("answered", [0, 1])
@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: test\r\nX-Slow: "])
def test_a_connection_without_a_request_is_closed_after_a_while(
    port: int, answered: int, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many of them as the process may have files would keep everybody else out."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=4) as connection:
        connection.sendall(answered * b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n" + sent)
        while connection.recv(65_536):
            pass


def test_a_connection_that_is_read_no_more_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "STALLED_SECONDS", 1)
    with (
        address.listening(f"127.0.0.1:{free_port()}") as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        # Far longer than it takes to be closed.
        accepted.settimeout(20)
        with pytest.raises(OSError, match="Connection timed out"):
            accepted.sendall(bytes(50_000_000))


def test_metrics_of_the_whole_system_are_in_prometheus_format(port: int) -> None:
    status, body, content_type = get(port, "/metrics")
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    families = {family.name for family in text_string_to_metric_families(body.decode())}
    assert {"mbevents_build_info", "mbevents_head_position", "mbevents_workers", "mbevents_dead_letters"} <= families


def test_answers_are_counted_by_route_and_class_of_status(port: int) -> None:
    for path, status in (
        ("/entity/artist/95e9aba6-f85c-48a0-9ec9-395d4f0e3875", 200),
        ("/entity/artist/00000000-0000-4000-8000-000000000002", 404),
        ("/entity/artist/nonsense", 400),
        ("/api/musicbrainz/replication-7.tar.bz2", 400),
        ("/nowhere/at/all", 404),
        ("/api/musicbrainz/replication-7.tar.bz2?token=secret", 403),
    ):
        assert get(port, path)[0] == status
    page = get(port, "/metrics")[1].decode()
    entity, packet = "/entity/{entity_type}/{mbid}", "/api/musicbrainz/{name}"
    assert f'mbevents_web_requests_total{{route="{entity}",status="2xx"}} 1.0' in page
    assert f'mbevents_web_requests_total{{route="{entity}",status="4xx"}} 2.0' in page
    assert f'mbevents_web_requests_total{{route="{packet}",status="4xx"}} 2.0' in page
    assert 'mbevents_web_requests_total{route="",status="4xx"} 1.0' in page
    assert f'mbevents_web_seconds_count{{route="{entity}"}} 3.0' in page
    assert "secret" not in page


def test_it_is_not_ready_without_our_tables_and_says_why(port: int, runtime: Runtime) -> None:
    with runtime.connection() as connection:
        connection.execute("DROP SCHEMA mbevents CASCADE")
    status, body, _ = get(port, "/readyz")
    assert status == 503
    assert "mbevents db install" in json.loads(body)["checks"]["database"]["reason"]
    assert get(port, "/healthz")[0] == 200
    assert b'mbevents_server_up{server="database"} 0.0' in get(port, "/metrics")[1]


def test_there_is_nothing_else(port: int) -> None:
    status, body, content_type = get(port, "/docs")
    assert (status, content_type) == (404, "application/problem+json")
    assert json.loads(body) == {"title": "Not Found", "status": 404, "detail": "Not Found"}


def test_a_taken_address_is_told(port: int, runtime: Runtime, settings: Settings) -> None:
    service = Service("web", settings.model_copy(update={"web_listen": f"127.0.0.1:{port}"}))
    with pytest.raises(UsageError, match="WEB_LISTEN: cannot listen on 127"):
        server.serve(runtime, service)


def test_a_client_that_asks_too_much_is_turned_away_and_others_are_not(port: int) -> None:
    def ask(forwarded: str, path: str = "/nothing") -> tuple[int, Message]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"X-Forwarded-For": forwarded})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers

    turned_away: list[Message] = []
    with ThreadPoolExecutor(8) as threads:
        # Each time with another word of its own before that of the proxy.
        for status, headers in threads.map(lambda n: ask(f"198.51.100.{n}, 203.0.113.9"), range(100)):
            assert status in {404, 429}
            if status == 429:
                turned_away.append(headers)
    headers = turned_away[0]
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"], headers["Retry-After"]) == ("20", "0", "1")
    assert abs(int(headers["X-RateLimit-Reset"]) - time.time()) < 60
    status, headers = ask("203.0.113.10")
    assert (status, headers["X-RateLimit-Remaining"]) == (404, "19")
    assert ask("203.0.113.9", "/healthz")[0] == 200
