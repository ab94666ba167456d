import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Scope

from ops.web.limits import RateLimited, client_of
from workers.limits.core import Decision
from workers.limits.core import Scope as Limit

LOCAL = "127.0.0.1"


class Told:
    """A limiter that answers what it is told to, and notes who asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[Limit] = []

    def decide(self, scopes: Sequence[Limit]) -> Decision:
        self.asked += scopes
        decision: Decision = self.answer(*scopes)
        return decision


def allowed(scope: Limit) -> Decision:
    return Decision("allowed", scope, 4, 0.0, 1795656859.2, 1795656858200000)


def refused(scope: Limit) -> Decision:
    return Decision("refused", scope, 0, 1.000001, 1795656859.2, 1795656858200000)


def closed(scope: Limit) -> Decision:
    return Decision("unavailable_closed", scope, retry_after=2.0)


def opened(scope: Limit) -> Decision:
    return Decision("unavailable_open", scope)


def ask(limiter: Told, path: str = "/", method: str = "GET", peer: str = "203.0.113.9") -> httpx.Response:
    app = FastAPI()

    @app.get("/")
    @app.get("/healthz")
    @app.get("/feed/packet")
    @app.get("/feedback")
    def page() -> dict[str, str]:
        return {"is": "here"}

    app.add_middleware(RateLimited, limiter=limiter, limit=5, free=["/feed"])
    transport = httpx.ASGITransport(app=app, client=(peer, 1))

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    return asyncio.run(run())


def limits(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith(("x-ratelimit", "retry"))}


def test_an_answer_tells_what_is_left() -> None:
    limiter = Told(allowed)
    answer = ask(limiter)
    assert (answer.status_code, answer.json()) == (200, {"is": "here"})
    assert limits(answer) == {
        "x-ratelimit-limit": "5",
        "x-ratelimit-remaining": "4",
        "x-ratelimit-reset": "1795656860",
    }
    assert limiter.asked == [Limit("web", "203.0.113.9", 5)]
    # Also of a page that is not there.
    assert limits(ask(limiter, "/nothing")) == limits(answer)


def test_who_asks_too_much_is_told_when_to_ask_again_and_the_page_is_not_made() -> None:
    answer = ask(Told(refused))
    assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
    assert limits(answer) == {
        "retry-after": "2",
        "x-ratelimit-limit": "5",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "1795656860",
    }
    assert answer.json() == {
        "title": "Too Many Requests",
        "status": 429,
        "detail": "More than 5 requests in a second. Ask again after the seconds in Retry-After.",
    }
    assert answer.headers["cache-control"] == "no-store"


def test_without_redis_it_is_as_the_limiter_says() -> None:
    answer = ask(Told(closed))
    assert (answer.status_code, limits(answer), answer.json()["title"]) == (
        503,
        {"retry-after": "2"},
        "Service Unavailable",
    )
    answer = ask(Told(opened))
    assert (answer.status_code, limits(answer)) == (200, {})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_who_looks_after_the_process_is_never_turned_away(path: str) -> None:
    limiter = Told(refused)
    assert ask(limiter, path).status_code == (200 if path == "/healthz" else 404)
    assert limiter.asked == []


@pytest.mark.parametrize("path", ["/healthz/", "//healthz", "/healthz/../", "/Metrics", "/metrics%2f", "/x/healthz"])
def test_a_path_that_only_looks_like_theirs_is_limited(path: str) -> None:
    assert ask(Told(refused), path).status_code == 429


def test_what_is_free_is_not_limited_and_what_only_begins_like_it_is() -> None:
    limiter = Told(refused)
    assert ask(limiter, "/feed/packet").status_code == 200
    assert limiter.asked == []
    assert ask(limiter, "/feedback").status_code == 429


def seen(*forwarded: str | bytes, peer: Any = (LOCAL, 4711)) -> str:
    headers = [(b"x-forwarded-for", each if isinstance(each, bytes) else each.encode()) for each in forwarded]
    scope: Scope = {"type": "http", "client": peer, "headers": headers}
    return client_of(scope)


def test_a_client_is_the_last_that_our_proxy_names() -> None:
    assert seen("203.0.113.9") == "203.0.113.9"
    # What is before it was sent by the client itself.
    assert seen("198.51.100.1, 203.0.113.9") == "203.0.113.9"
    assert seen("127.0.0.1, ::1, 203.0.113.9") == "203.0.113.9"
    assert seen("198.51.100.1", "203.0.113.9") == "203.0.113.9"
    assert seen(b"\xff\xfe, 203.0.113.9") == "203.0.113.9"
    # Two proxies of this machine, one behind the other.
    assert seen("198.51.100.1, 203.0.113.9, 127.0.0.1") == "203.0.113.9"
    assert seen("203.0.113.9, ::1", peer=("::1", 1)) == "203.0.113.9"


def test_only_a_proxy_on_this_machine_is_believed() -> None:
    assert seen("198.51.100.1", peer=("203.0.113.9", 1)) == "203.0.113.9"


def test_without_a_word_of_the_proxy_all_are_one_client() -> None:
    for forwarded in ([], [""], ["203.0.113.9,"], ["unknown"], ["_hidden"], ["203.0.113.999"], ["a" * 60_000]):
        assert seen(*forwarded) == LOCAL
    assert seen("203.0.113.9," + "127.0.0.1," * 10_000 + "127.0.0.1") == LOCAL
    assert seen(peer=None) == "unknown"
    assert seen("203.0.113.9", peer=("testclient", 1)) == "unknown"


def test_an_address_is_known_again_however_it_is_written() -> None:
    for written in ("203.0.113.9:4711", "::ffff:203.0.113.9", "[::ffff:cb00:7109]:443", " 203.0.113.9 "):
        assert seen(written) == "203.0.113.9"


def test_addresses_of_ipv6_are_one_client_by_their_64_first_bits() -> None:
    for written in (
        "2001:db8:1:2::1",
        "2001:DB8:1:2:ffff:ffff:ffff:ffff",
        "[2001:db8:1:2::9]:443",
        "2001:db8:1:2::1%eth0",
    ):
        assert seen(written) == "2001:db8:1:2::/64"
    assert seen("2001:db8:1:3::1") == "2001:db8:1:3::/64"
    assert seen("::1", peer=("::1", 1)) == "::/64"
