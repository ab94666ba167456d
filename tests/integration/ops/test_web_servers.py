"""Redis is away, in part or all of it: the web says so, soon, and is ready again when it is back."""

import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis

from ops.metrics import PrometheusTelemetry
from ops.settings import RedisRole, Settings
from ops.wiring import Runtime
from tests.integration.ops.test_web import get
from tests.redis_process import RedisProcess
from tests.waiting import wait_for

CACHES = ("entities", "search", "statistics")


@pytest.fixture
def server(start_redis: Callable[..., RedisProcess]) -> RedisProcess:
    return start_redis()


@pytest.fixture
def roles() -> tuple[str, ...]:
    """The roles that are on a server which the test may kill; those of the others are on the run's."""
    return tuple(role.name.lower() for role in RedisRole)


@pytest.fixture
def settings(settings: Settings, server: RedisProcess, roles: tuple[str, ...], request: Any) -> Settings:
    urls = {f"redis_{role}_url": server.url(RedisRole[role.upper()]) for role in roles if role != "broker"}
    if "broker" in roles:
        urls["broker_url"] = server.url(RedisRole.BROKER)
    given = settings.model_dump(exclude_unset=True) | urls | getattr(request, "param", {})
    return Settings.model_validate(given)


def ready(port: int) -> tuple[int, str, set[str]]:
    """Status, what it says, and which checks failed."""
    status, body, _ = get(port, "/readyz")
    told = json.loads(body)
    return status, told["status"], {name for name, check in told["checks"].items() if not check["ok"]}


def test_the_web_stays_up_and_is_ready_again_by_itself(port: int, server: RedisProcess, runtime: Runtime) -> None:
    assert isinstance(runtime.telemetry, PrometheusTelemetry)
    measured = runtime.telemetry.registry
    assert ready(port) == (200, "ready", set())
    server.kill()
    assert get(port, "/healthz")[0] == 200
    wait_for(lambda: ready(port) == (503, "not ready", {role.name.lower() for role in RedisRole}))
    status, page, _ = get(port, "/metrics")
    assert status == 200
    for role in RedisRole:
        assert f'mbevents_server_up{{server="{role.name.lower()}"}} 0.0'.encode() in page
    assert b'mbevents_server_up{server="database"} 1.0' in page
    for _ in range(3):
        with pytest.raises(redis.ConnectionError):
            runtime.client(RedisRole.SESSIONS).ping()
    server.start()
    wait_for(lambda: ready(port) == (200, "ready", set()))
    circuit = {"circuit": "redis sessions"}
    assert measured.get_sample_value("mbevents_circuit_openings_total", circuit) == 1
    assert measured.get_sample_value("mbevents_circuit_open", circuit) == 0
    # What was asked of the servers is told again for a moment.
    wait_for(lambda: b'mbevents_server_up{server="broker"} 1.0' in get(port, "/metrics")[1])


@pytest.mark.parametrize("roles", [(*CACHES, "pubsub", "broker")])
def test_without_caches_it_is_ready_and_says_what_is_away(
    port: int, server: RedisProcess, roles: tuple[str, ...]
) -> None:
    server.kill()
    wait_for(lambda: ready(port) == (200, "degraded", set(roles)))
    server.start()
    wait_for(lambda: ready(port) == (200, "ready", set()))


@pytest.mark.parametrize(
    ("roles", "settings", "expected"),
    [
        (("sessions",), {"sessions_without_redis": "refuse"}, (503, "not ready")),
        (("sessions",), {"sessions_without_redis": "anonymous"}, (200, "degraded")),
        (("limits",), {"limits_without_redis": "closed"}, (503, "not ready")),
        (("limits",), {"limits_without_redis": "open"}, (200, "degraded")),
        (("limits",), {"limits_without_redis": "closed", "web_rate_limit": 0}, (200, "degraded")),
    ],
    indirect=["settings"],
)
def test_without_sessions_or_limits_it_is_ready_if_they_answer_without_redis(
    port: int, server: RedisProcess, roles: tuple[str, ...], expected: tuple[int, str]
) -> None:
    server.kill()
    assert ready(port) == (*expected, set(roles))


def test_a_master_that_became_a_replica_is_none_that_answers(port: int, server: RedisProcess) -> None:
    with redis.Redis.from_url(server.url()) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        status, _, failed = ready(port)
        assert (status, failed) == (503, {role.name.lower() for role in RedisRole})
        client.execute_command("REPLICAOF", "NO", "ONE")
    wait_for(lambda: ready(port)[0] == 200)


def test_however_many_ask_whether_it_is_ready_the_servers_are_asked_now_and_then(
    port: int, server: RedisProcess
) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(lambda _: get(port, "/readyz")[0], range(400))) == {200}
    looks = 1 + int(time.monotonic() - began)
    with redis.Redis.from_url(server.url()) as client:
        asked = cast("dict[str, Any]", client.info("commandstats"))["cmdstat_persist"]["calls"]
    assert len(RedisRole) <= asked <= looks * len(RedisRole)


def test_one_that_hangs_keeps_nobody_waiting(port: int, server: RedisProcess) -> None:
    took: list[float] = []

    def probe() -> None:
        began = time.monotonic()
        status, says, failed = ready(port)
        took.append(time.monotonic() - began)
        assert (status, says, failed) == (503, "not ready", {role.name.lower() for role in RedisRole})

    server.send(signal.SIGSTOP)
    try:
        # More than the web has threads: none of them is for who asks after its health.
        probes = [threading.Thread(target=probe) for _ in range(60)]
        for each in probes:
            each.start()
        began = time.monotonic()
        assert get(port, "/healthz")[0] == 200
        assert get(port, "/api/musicbrainz/replication-check")[0] == 200
        assert time.monotonic() - began < 1.9
        for each in probes:
            each.join(10)
    finally:
        server.send(signal.SIGCONT)
    assert len(took) == 60
    # A second each, one after the other, would be many; and room for a busy machine.
    assert max(took) < 3
    wait_for(lambda: ready(port)[0] == 200)
