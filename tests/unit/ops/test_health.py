import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from events.errors import UsageError
from ops import metrics
from ops.web import health
from ops.web.health import Health
from ops.web.small import SmallServer

SWITCH = {"database": "", "cache": ""}


def check(name: str) -> Callable[[], None]:
    def looks() -> None:
        if SWITCH[name]:
            raise ConnectionError(SWITCH[name])

    return looks


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallServer]:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0)
    SWITCH.update(database="", cache="")
    looked_at = Health("bridge", "1", {"database": check("database")}, {"cache": check("cache")})
    running = SmallServer(("127.0.0.1", 0), looked_at, metrics.make_registry("1"))
    yield running
    running.close()


def get(server: SmallServer, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_is_alive_whatever_it_depends_on(server: SmallServer) -> None:
    SWITCH["database"] = "away"
    status, body = get(server, "/healthz")
    assert (status, json.loads(body)["status"]) == (200, "alive")


def test_it_is_ready_only_while_its_dependencies_answer(server: SmallServer) -> None:
    assert get(server, "/readyz")[0] == 200
    SWITCH["database"] = "postgresql://mb:s3cret@db/mb refused by a@b.org\nDETAIL: row"
    status, body = get(server, "/readyz")
    assert status == 503
    assert json.loads(body)["checks"]["database"] == {
        "ok": False,
        "reason": "ConnectionError: postgresql://mb:***@db/mb refused by <e-mail>",
    }


def test_without_what_it_can_do_without_it_is_ready_and_says_what_is_away(server: SmallServer) -> None:
    SWITCH["cache"] = "away"
    status, body = get(server, "/readyz")
    told = json.loads(body)
    assert (status, told["status"]) == (200, "degraded")
    assert told["checks"]["cache"] == {"ok": False, "reason": "ConnectionError: away"}
    SWITCH["cache"] = ""
    assert json.loads(get(server, "/readyz")[1])["status"] == "ready"


def test_many_who_ask_at_once_cost_one_look_and_a_check_that_hangs_a_second() -> None:
    looks: list[float] = []
    let_go = threading.Event()

    def hangs() -> None:
        looks.append(time.monotonic())
        let_go.wait()

    looked_at = Health("web", "1", {"hangs": hangs})
    began = time.monotonic()
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: looked_at.ready(), range(20)))
    let_go.set()
    # A second look would take another second.
    assert time.monotonic() - began < 2
    assert {answer.status for answer in answers} == {503}
    assert json.loads(answers[0].body)["checks"]["hangs"]["reason"] == "it did not answer within 1 s"
    assert len(looks) == 1


def test_metrics_are_served(server: SmallServer) -> None:
    status, body = get(server, "/metrics?x=1")
    assert status == 200
    assert "mbevents_build_info" in body


def test_other_pages_are_not_found_and_head_has_no_body(server: SmallServer) -> None:
    assert get(server, "/")[0] == 404
    assert get(server, "/healthz", "HEAD") == (200, "")


def test_a_taken_address_is_told_and_the_next_port_serves_the_next_process(server: SmallServer) -> None:
    idle, registry = Health("worker", "1", {}), metrics.make_registry("1")
    with pytest.raises(UsageError, match=f"METRICS_LISTEN: 127.0.0.1:{server.port} is taken"):
        SmallServer(("127.0.0.1", server.port), idle, registry)
    second = SmallServer(("127.0.0.1", server.port), idle, registry, ports=20)
    assert second.port > server.port
    second.close()


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(UsageError, match="cannot listen on 192"):
        SmallServer(("192.0.2.1", 9100), Health("worker", "1", {}), metrics.make_registry("1"))
