"""The clients of a running process, and `mbevents http`."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from events.errors import MbeventsError
from ops.cli.app import app
from ops.settings import Settings
from ops.stack import Stack
from ops.wiring import open_runtime
from tests.integration.workers.http.hostile import answers, hostile
from tests.integration.workers.http.making import kind
from workers.http.answers import Caching
from workers.http.core import Answer, Kind


@pytest.fixture
def environment(redis_server: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # It would send the log of all tests after this one to an output that is closed by then.
    monkeypatch.setattr("ops.logs.configure", lambda **_: None)
    monkeypatch.setenv("REDIS_SERVER", redis_server.redis_url().partition("?")[0])
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and standard output."""
    result = CliRunner().invoke(app, ["http", *arguments])
    if isinstance(result.exception, MbeventsError):
        return result.exception.exit_code, result.stdout
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def told(*arguments: str) -> tuple[int, dict[str, Any]]:
    code, text = run(*arguments, "--json")
    # The tests' log comes before it.
    return code, json.loads(text.splitlines()[-1])


def test_a_process_asks_as_the_operator_and_shares_its_answers_and_turns(redis_server: Stack) -> None:
    settings = Settings(
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"),
        redis_server=SecretStr(redis_server.redis_url().partition("?")[0]),
        operator_contact="https://mirror.example/about",
    )
    with hostile(answers(b"hello")) as server:
        for cached in (False, True):
            with open_runtime(settings, database=False) as parts:
                answer = parts.http.get(server.url, caching=Caching(fresh=60))
                assert isinstance(answer, Answer)
                assert answer.cached is cached
        assert b"(https://mirror.example/about) httpx/" in server.requests[0]
        assert len(server.requests) == 1


def test_a_users_url_goes_to_public_addresses_only(redis_server: Stack) -> None:
    settings = Settings(
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"),
        redis_server=SecretStr(redis_server.redis_url().partition("?")[0]),
    )
    with hostile(answers()) as server, open_runtime(settings, database=False) as parts:
        assert kind(parts.guarded_http.get(f"https://localhost:{server.port}/")) is Kind.FORBIDDEN_ADDRESS
        assert server.connections == 0


@pytest.mark.usefixtures("environment")
def test_the_command_prints_what_came_and_exits_by_it() -> None:
    with hostile(answers(b"hello"), answers(status="404 No"), answers(status="500 Oops"), answers()) as server:
        assert run("get", server.url) == (0, "hello\n")
        assert told("get", server.url)[0] == 4
        code, failure = told("get", f"{server.url}/?token=secret")
        assert (code, failure["kind"], failure["status"], failure["url"]) == (6, "status_5xx", 500, f"{server.url}/")
        assert told("get", server.url, "--cache", "60")[1]["cached"] is False
        assert told("get", server.url, "--cache", "60")[1]["cached"] is True
    assert told("get", server.url)[1]["kind"] == "connection"
    assert told("get", "https://127.0.0.1/", "--guarded")[0] == 2
    assert told("get", "https://en.wikipedia.org/")[1]["kind"] == "unidentified"
    assert run("get", "nonsense")[0] == 2
