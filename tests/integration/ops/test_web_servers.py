"""The Redis of everything is away: the web says so, soon, and is ready again when it is back."""

import signal
import threading
import time
from collections.abc import Callable

import pytest

from ops.settings import Settings
from tests.chaos.redis.conftest import start_redis
from tests.integration.ops.test_web import get
from tests.redis_process import RedisProcess
from tests.waiting import wait_for

__all__ = ["start_redis"]


@pytest.fixture
def server(start_redis: Callable[..., RedisProcess]) -> RedisProcess:
    return start_redis()


@pytest.fixture
def settings(installed_template: str, clone: Callable[[str], str], server: RedisProcess) -> Settings:
    """All roles on one Redis, which the test may kill."""
    return Settings.model_validate(
        {"database_url": clone(installed_template), "redis_server": f"unix://{server.socket}"}
    )


def test_the_web_stays_up_and_is_ready_again_by_itself(port: int, server: RedisProcess) -> None:
    assert get(port, "/readyz")[0] == 200
    server.kill()
    assert get(port, "/healthz")[0] == 200
    assert get(port, "/readyz")[0] == 503
    status, page, _ = get(port, "/metrics")
    assert status == 200
    assert b'mbevents_server_up{server="broker"} 0.0' in page
    assert b'mbevents_server_up{server="database"} 1.0' in page
    server.start()
    assert get(port, "/readyz")[0] == 200
    # What was asked of the servers is told again for a moment.
    wait_for(lambda: b'mbevents_server_up{server="broker"} 1.0' in get(port, "/metrics")[1])


def test_who_waits_for_a_stopped_one_keeps_nobody_waiting(port: int, server: RedisProcess) -> None:
    answers: list[int] = []
    server.send(signal.SIGSTOP)
    try:
        waiting = threading.Thread(target=lambda: answers.append(get(port, "/readyz")[0]))
        began = time.monotonic()
        waiting.start()
        assert get(port, "/healthz")[0] == 200
        assert time.monotonic() - began < 1
        waiting.join(10)
        # Two roles are looked at, for two seconds each.
        assert time.monotonic() - began < 5
    finally:
        server.send(signal.SIGCONT)
    assert answers == [503]
    wait_for(lambda: get(port, "/readyz")[0] == 200)
