"""PostgreSQL is slow, or says nothing at all: who needs it is told so soon, and nobody else notices."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import psycopg
import pytest

from ops.settings import Settings
from ops.stack import Stack
from ops.web import threads
from ops.wiring import Runtime, caches
from tests.proxy import Proxy
from tests.waiting import wait_for

ARTIST = "/entity/artist/8970d868-0723-483b-a75b-51088913d3d4"
CACHED = "/entity/artist/95e9aba6-f85c-48a0-9ec9-395d4f0e3875"
# More than the web has threads of any kind.
MANY = 70


class Answered(NamedTuple):
    status: int
    retry_after: str | None
    seconds: float


def ask(port: int, path: str) -> Answered:
    began = time.monotonic()
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return Answered(answer.status, answer.headers["Retry-After"], time.monotonic() - began)


class Crowd:
    """Asks for all of these at once."""

    def __init__(self, port: int, paths: list[str]) -> None:
        self._port = port
        self._answers: list[Answered] = []
        self._threads = [threading.Thread(target=self._ask, args=(path,)) for path in paths]
        for thread in self._threads:
            thread.start()

    def _ask(self, path: str) -> None:
        self._answers.append(ask(self._port, path))

    def answers(self) -> list[Answered]:
        for thread in self._threads:
            thread.join(60)
        assert len(self._answers) == len(self._threads)
        return self._answers


@pytest.fixture
def database(installed_template: str, clone: Callable[[str], str]) -> str:
    return clone(installed_template)


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    """The web's way to PostgreSQL."""
    between = Proxy(f"{parse_qs(urlsplit(database).query)['host'][0]}/.s.PGSQL.5432")
    yield between
    between.close()


@pytest.fixture(autouse=True)
def less_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE_SECONDS", 1)
    monkeypatch.setattr(threads, "LONGEST_SECONDS", 4)
    monkeypatch.setattr(caches, "_CONNECTION_SECONDS", 1)
    monkeypatch.setattr(caches, "_READING_SECONDS", 1)


@pytest.fixture
def settings(database: str, proxy: Proxy, redis_server: Stack, tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {
            "database_url": f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(database).path}",
            "redis_server": redis_server.redis_url().partition("?")[0],
            "packet_store": f"file://{tmp_path}",
            "web_rate_limit": 0,
        }
    )


@pytest.fixture
def info(runtime: Runtime) -> str:
    """Needs a token of the feed, and so the database."""
    return f"/api/musicbrainz/replication-info?token={runtime.feed_tokens.create('alice')}"


def quickly(port: int, path: str) -> int:
    answer = ask(port, path)
    assert answer.seconds < 1.5, path
    return answer.status


def nobody_else_notices(port: int) -> None:
    for path in ("/healthz", "/session", "/statistics", "/api/musicbrainz/replication-check"):
        assert quickly(port, path) == 200


def test_readers_of_a_locked_table_keep_nobody_else_waiting(runtime: Runtime, port: int, info: str) -> None:
    with psycopg.connect(runtime.database_url) as locker:
        locker.execute("LOCK TABLE musicbrainz.artist IN ACCESS EXCLUSIVE MODE")
        readers = Crowd(port, [ARTIST] * MANY)
        time.sleep(0.5)
        nobody_else_notices(port)
        assert quickly(port, "/readyz") == 200
        assert quickly(port, info) == 200
        answers = readers.answers()
        locker.rollback()
    assert {(each.status, each.retry_after) for each in answers} == {(503, "5")}
    wait_for(lambda: quickly(port, ARTIST) == 200)


def test_of_many_readers_of_a_slow_database_some_are_answered_and_the_others_told_soon(
    port: int, proxy: Proxy, info: str
) -> None:
    assert quickly(port, CACHED) == 200
    proxy.delay = 0.4
    readers = Crowd(port, [f"/entity/artist/{uuid4()}" for _ in range(MANY)])
    time.sleep(0.2)
    nobody_else_notices(port)
    assert ask(port, info).status == 200
    answers = readers.answers()
    assert {each.status for each in answers} == {404, 503}
    assert {each.retry_after for each in answers if each.status == 503} == {"5"}
    # For a thread, for a connection, and for a few queries; at most LONGEST_SECONDS once there is a thread.
    assert max(each.seconds for each in answers) < 10
    assert quickly(port, CACHED) == 200


def test_a_database_that_says_nothing_any_more_holds_up_who_needs_it_and_nobody_else(
    port: int, proxy: Proxy, info: str
) -> None:
    assert quickly(port, CACHED) == 200
    assert quickly(port, info) == 200
    # A token that is known is not asked for again at once.
    time.sleep(2)
    proxy.silent = True
    crowd = Crowd(port, [f"/entity/artist/{uuid4()}" for _ in range(MANY)] + [info] * MANY)
    time.sleep(0.2)
    nobody_else_notices(port)
    assert quickly(port, "/readyz") == 503
    answers = crowd.answers()
    assert {each.status for each in answers} == {503}
    assert None not in {each.retry_after for each in answers}
    # The feed's tokens are waited for for 3 s, by everybody together.
    assert max(each.seconds for each in answers) < 10
    assert quickly(port, CACHED) == 200
    proxy.silent = False
    wait_for(lambda: quickly(port, "/readyz") == quickly(port, ARTIST) == quickly(port, info) == 200)
