"""The web's rate limit with a real Redis, and while that is killed or does not answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import psutil
import pytest
from fastapi import FastAPI

from events.breaker import Breaker
from events.connections import open_client
from events.telemetry import NoTelemetry
from ops.stack.redis import EmbeddedRedis
from ops.web.limits import RateLimited
from tests.own_redis import server
from tests.waiting import wait_for
from workers.limits.adapters import RedisWindows
from workers.limits.core import WithoutRedis
from workers.limits.service import Limiter

__all__ = ["server"]

Ask = Callable[..., list[httpx.Response]]


@pytest.fixture
def ask(server: EmbeddedRedis) -> Iterator[Callable[[WithoutRedis], Ask]]:
    """Makes who asks a web that is open or closed without Redis, many times at once."""
    with open_client(server.url(4), Breaker("limits", open_seconds=0.05), seconds=0.3) as client:

        def make(without_redis: WithoutRedis) -> Ask:
            app = FastAPI()
            app.get("/")(lambda: {})
            limiter = Limiter(RedisWindows(client), without_redis=without_redis, telemetry=NoTelemetry())
            app.add_middleware(RateLimited, limiter=limiter, limit=5)

            async def run(times: int) -> list[httpx.Response]:
                transport = httpx.ASGITransport(app, client=("203.0.113.9", 1))
                async with httpx.AsyncClient(transport=transport, base_url="http://web") as http:
                    return await asyncio.gather(*(http.get("/") for _ in range(times)))

            return lambda times=1: asyncio.run(run(times))

        yield make


def test_of_many_at_once_as_many_as_the_limit_are_answered(ask: Callable[[WithoutRedis], Ask]) -> None:
    web = ask("closed")
    began = time.monotonic()
    answers = web(30)
    windows = 1 + int(time.monotonic() - began)
    counted = Counter(each.status_code for each in answers)
    assert set(counted) == {200, 429}
    assert 5 <= counted[200] <= 5 * windows
    remaining = [int(each.headers["x-ratelimit-remaining"]) for each in answers if each.status_code == 200]
    assert {*range(5)} == {*remaining}
    wait = int(next(each.headers["retry-after"] for each in answers if each.status_code == 429))
    assert wait == 1
    time.sleep(wait)
    assert [each.status_code for each in web(1)] == [200]


@pytest.mark.parametrize("how", ["kill", "suspend"])
def test_the_web_stays_up_while_redis_is_away_and_the_limit_is_back_with_it(
    server: EmbeddedRedis, ask: Callable[[WithoutRedis], Ask], how: str
) -> None:
    opened, closed = ask("open"), ask("closed")
    assert "x-ratelimit-limit" in opened(1)[0].headers
    process = psutil.Process(server.pid)
    getattr(process, how)()
    try:
        began = time.monotonic()
        answers = opened(20)
        assert {each.status_code for each in answers} == {200}
        assert not any("x-ratelimit-limit" in each.headers for each in answers)
        refused = closed(3)
        assert {(each.status_code, each.headers["retry-after"]) for each in refused} == {(503, "2")}
        # However many ask, they do not wait one after the other.
        assert time.monotonic() - began < 5
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()
    if how == "kill":
        server.stop()
        server.start()
    wait_for(lambda: "x-ratelimit-limit" in closed(1)[0].headers)
    wait_for(lambda: closed(1)[0].status_code == 200)
