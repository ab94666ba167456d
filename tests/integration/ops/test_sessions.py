"""Sessions on the web."""

import asyncio
import json
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
import redis
from fastapi import Depends, FastAPI, Response

from events.breaker import Breaker
from events.connections import open_client
from ops import metrics
from ops.metrics import PrometheusTelemetry
from ops.settings import Settings
from ops.stack import Stack
from ops.web import sessions as web
from ops.web.sessions import COOKIE, Visitor, visitor
from ops.wiring import open_runtime
from tests.integration.workers.accounts.sessions.conftest import make_sessions
from workers.accounts.sessions.core import hashed
from workers.accounts.sessions.service import Sessions, WithoutRedis

SITE = "https://mb.example"
SAME = {"Sec-Fetch-Site": "same-origin"}


def served(sessions: Sessions) -> FastAPI:
    app = FastAPI()
    web.register(app, sessions)

    @app.get("/hello")
    def hello(asking: Annotated[Visitor, Depends(visitor)]) -> dict[str, int | None]:
        return {"editor": asking.editor_id, "again": asking.editor_id}

    @app.get("/plain")
    def plain(asking: Annotated[Visitor, Depends(visitor)]) -> str:
        return "nobody asked who"

    return app


class Browser:
    """Keeps cookies; each request is a call."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.cookies = httpx.Cookies()

    def request(self, method: str, path: str, headers: Any = None) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url=SITE, cookies=self.cookies) as client:
                answer = await client.request(method, path, headers=headers)
                self.cookies = client.cookies
                return answer

        return asyncio.run(send())

    def get(self, path: str, headers: Any = None) -> httpx.Response:
        return self.request("GET", path, headers)

    def delete(self, path: str, headers: Any = None) -> httpx.Response:
        return self.request("DELETE", path, headers)


@pytest.fixture
def store(redis_server: Stack) -> "Iterator[redis.Redis]":
    made = open_client(redis_server.redis_url(1), Breaker("redis sessions"))
    yield made
    made.close()


@pytest.fixture
def sessions(store: "redis.Redis") -> Sessions:
    return make_sessions(store)


@pytest.fixture
def client(sessions: Sessions) -> Browser:
    return Browser(served(sessions))


def with_cookie(value: str, **more: str) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={value}", **more}


def scripts_run(store: "redis.Redis") -> int:
    found: Any = store.info("commandstats")
    return int(found["cmdstat_evalsha"]["calls"])


def check(answer: httpx.Response) -> Any:
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.json()


def test_who_is_signed_in_is_told_when_that_ends(client: Browser, sessions: Sessions) -> None:
    opened = sessions.sign_in(901)
    told = check(client.get("/session", headers=with_cookie(opened.id)))
    assert (told["signed_in"], told["editor_id"]) == (True, 901)
    assert told["ends"] == opened.session.ends.isoformat().replace("+00:00", "Z")
    assert told["idle_ends"] < told["ends"]
    assert opened.id not in json.dumps(told)
    assert client.get("/hello", headers=with_cookie(opened.id)).json() == {"editor": 901, "again": 901}


def test_to_ask_when_it_ends_is_no_use_of_a_session_and_to_ask_who_it_is_is_one(
    client: Browser, sessions: Sessions, store: "redis.Redis"
) -> None:
    opened = sessions.sign_in(901)
    key = f"MB:session:{hashed(opened.id)}"
    for path, renewed in (("/session", False), ("/plain", False), ("/hello", True)):
        store.pexpire(key, 60_000)
        client.get(path, headers=with_cookie(opened.id))
        assert (store.pttl(key) > 60_000) is renewed


def test_who_sends_no_cookie_and_who_sends_nonsense_ask_redis_nothing(
    client: Browser, sessions: Sessions, store: "redis.Redis"
) -> None:
    sessions.get("a" * 43)
    before = scripts_run(store)
    for headers in ({}, {"Cookie": "other=1"}, with_cookie("short"), with_cookie("MB:sessions:editor:901")):
        assert check(client.get("/session", headers=headers)) == {"signed_in": False}
        assert client.get("/hello", headers=headers).json() == {"editor": None, "again": None}
    assert scripts_run(store) == before
    # A handler that asks twice has Redis asked once.
    client.get("/hello", headers=with_cookie("a" * 43))
    assert scripts_run(store) == before + 1


@pytest.mark.parametrize(
    "cookie",
    [
        "a" * 43, "a" * 5000, '"', "=", ";;;=;", f"{COOKIE}", f"{COOKIE}=", f"{COOKIE}=\xff\xfe" + "a" * 41,
        f"{COOKIE}=" + "%00" * 20, f"{COOKIE}={'a' * 43}", f"x{COOKIE}=GOOD", f"{COOKIE}x=GOOD",
        "__host-mbevents-session=GOOD", f"{COOKIE}=GOOD; {COOKIE}=GOOD", f"{COOKIE}={'a' * 43}; {COOKIE}=GOOD",
        f'{COOKIE}="GOOD"', f"{COOKIE}=GOOD{'a' * 9000}", f"{COOKIE}=GOOD=", f"{COOKIE}=*",
    ],
)  # fmt: skip
def test_a_cookie_that_is_not_exactly_ours_is_nobodys(client: Browser, sessions: Sessions, cookie: str) -> None:
    good = sessions.sign_in(901).id
    sent = cookie.replace("GOOD", good).encode("latin-1")
    assert check(client.get("/session", headers=[(b"cookie", sent)])) == {"signed_in": False}


def test_among_other_cookies_ours_is_found(client: Browser, sessions: Sessions) -> None:
    good = sessions.sign_in(901).id
    told = client.get("/session", headers={"Cookie": f"lang=de;  {COOKIE}={good} ; theme=dark"}).json()
    assert told["signed_in"]


def test_the_cookie_is_one_that_no_script_no_neighbour_and_no_plain_connection_sees(sessions: Sessions) -> None:
    app = served(sessions)

    @app.get("/enter")
    def enter() -> Any:
        response = Response()
        web.give_cookie(response, sessions.sign_in(901).id)
        return response

    browser = Browser(app)
    name, *attributes = browser.get("/enter").headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-mbevents-session=")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]
    assert browser.get("/session").json()["signed_in"]
    left = browser.delete("/session", headers=SAME)
    assert (left.status_code, left.headers["Cache-Control"]) == (204, "no-store")
    assert "Max-Age=0" in left.headers["Set-Cookie"]
    assert not browser.cookies
    assert browser.get("/session").json() == {"signed_in": False}
    assert sessions.of_editor(901) == []


def test_log_out_ends_this_session_and_log_out_everywhere_all_of_this_editors(
    client: Browser, sessions: Sessions
) -> None:
    here, there, more = (sessions.sign_in(901).id for _ in range(3))
    other = sessions.sign_in(902).id
    assert client.delete("/session", headers=with_cookie(here, **SAME)).status_code == 204
    assert sessions.look(there) is not None
    # A session that has ended ends no others.
    assert check(client.delete("/sessions", headers=with_cookie(here, **SAME))) == {"ended": 0}
    everywhere = client.delete("/sessions", headers=with_cookie(there, **SAME))
    assert check(everywhere) == {"ended": 2}
    assert "Max-Age=0" in everywhere.headers["Set-Cookie"]
    assert sessions.look(more) is None
    assert sessions.look(other) is not None
    assert check(client.delete("/sessions", headers=SAME)) == {"ended": 0}
    assert client.delete("/session").status_code == 204


@pytest.mark.parametrize("path", ["/session", "/sessions"])
@pytest.mark.parametrize(
    "origin",
    [
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "Same-Origin "}, {"Sec-Fetch-Site": "cross-site", "Origin": SITE},
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "https://mb.example.evil.example"},
        {"Origin": "https://mb.example:444"}, {"Origin": "https://[mb.example"}, {"Origin": ""},
        {"Origin": "https://mb.example@evil.example"},
    ],
)  # fmt: skip
def test_another_sites_page_logs_nobody_out(
    client: Browser, sessions: Sessions, path: str, origin: dict[str, str]
) -> None:
    mine = sessions.sign_in(901).id
    refused = client.delete(path, headers=with_cookie(mine, **origin))
    assert (refused.status_code, "Set-Cookie" in refused.headers) == (403, False)
    assert "another site" in check(refused)["detail"]
    assert sessions.look(mine) is not None


@pytest.mark.parametrize(
    "origin", [SAME, {"Sec-Fetch-Site": "none"}, {"Origin": SITE}, {"Origin": "HTTPS://MB.example"}, {}]
)
def test_our_own_page_and_what_is_no_browser_may_log_out(
    client: Browser, sessions: Sessions, origin: dict[str, str]
) -> None:
    mine = sessions.sign_in(901).id
    assert client.delete("/session", headers=with_cookie(mine, **origin)).status_code == 204
    assert sessions.look(mine) is None


@pytest.mark.parametrize(("path", "method"), [("/session", "POST"), ("/session", "PUT"), ("/sessions", "GET")])
def test_nothing_else_is_done_there(client: Browser, path: str, method: str) -> None:
    assert client.request(method, path, headers=SAME).status_code == 405


@pytest.mark.parametrize(("configured", "status"), [("refuse", 503), ("anonymous", 200)])
def test_while_redis_is_away_it_is_as_configured_and_log_out_is_not_called_done(
    configured: WithoutRedis, status: int
) -> None:
    settings = Settings.model_validate(
        {"database_url": "postgresql://nowhere.invalid/mb", "redis_server": "redis://127.0.0.1:1"}
    ).model_copy(update={"sessions_without_redis": configured})
    telemetry = PrometheusTelemetry(metrics.make_registry("test"))
    with open_runtime(settings, telemetry=telemetry) as parts:
        browser = Browser(served(parts.sessions))
        answer = browser.get("/session", headers=with_cookie("a" * 43))
        assert answer.status_code == status
        assert browser.get("/hello", headers=with_cookie("a" * 43)).status_code == status
        # Who has no cookie needs no Redis.
        assert browser.get("/session").json() == {"signed_in": False}
        for path in ("/session", "/sessions"):
            failed = browser.delete(path, headers=with_cookie("a" * 43, **SAME))
            assert (failed.status_code, failed.headers["Retry-After"]) == (503, "5")
            assert failed.headers["Content-Type"] == "application/problem+json"
            assert "Set-Cookie" not in failed.headers
            assert failed.headers["Content-Type"] == "application/problem+json"
            assert "127.0.0.1" not in json.dumps(check(failed))
    told = metrics.page(telemetry.registry).decode()
    assert 'mbevents_session_operations_total{operation="read",outcome="unavailable"} 1.0' in told
