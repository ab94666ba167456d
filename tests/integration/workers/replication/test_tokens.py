import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from events.errors import NotFoundError, UnreachableError, UsageError
from tests.waiting import wait_for
from workers.replication.tokens import Doorkeeper, Tokens


@pytest.fixture
def connect(captured: str) -> Callable[[], Any]:
    @contextmanager
    def connected() -> Iterator["psycopg.Connection[Any]"]:
        with psycopg.connect(captured, autocommit=True) as connection:
            yield connection

    return connected


@pytest.fixture
def tokens(connect: Callable[[], Any]) -> Tokens:
    return Tokens(connect)


def test_a_token_is_40_letters_and_digits_and_only_its_hash_is_kept(tokens: Tokens, connect: Callable[[], Any]) -> None:
    token = tokens.create("alice")
    assert len(token) == 40
    assert token.isascii()
    assert token.isalnum()
    with connect() as connection:
        (row,) = connection.execute("SELECT sha256, feed_token::text FROM mbevents.feed_token").fetchall()
    assert row[0] == hashlib.sha256(token.encode()).digest()
    assert token not in row[1]
    assert token != tokens.create("bob")


def test_tokens_are_listed_by_name_and_revoked_ones_are_gone(tokens: Tokens) -> None:
    for name in ("zoe", "alice"):
        tokens.create(name)
    assert [each.name for each in tokens.list()] == ["alice", "zoe"]
    tokens.revoke("alice")
    assert [each.name for each in tokens.list()] == ["zoe"]
    with pytest.raises(NotFoundError, match="no token 'alice'"):
        tokens.revoke("alice")
    tokens.create("alice")


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "ä", "a\n", "x" * 65, "a/b", "a'; DROP TABLE x"])
def test_names_that_would_be_awkward_in_a_metric_are_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(UsageError, match="no name for a token"):
        tokens.create(name)


def test_a_name_is_used_once(tokens: Tokens) -> None:
    tokens.create("alice")
    with pytest.raises(UsageError, match="There is a token alice already"):
        tokens.create("alice")


def test_the_doorkeeper_knows_new_tokens_at_once_and_forgets_revoked_ones_within_seconds(tokens: Tokens) -> None:
    doorkeeper = Doorkeeper(tokens.hashes)
    assert doorkeeper.who("x" * 40) is None
    token = tokens.create("alice")
    wait_for(lambda: doorkeeper.who(token) == "alice", seconds=1.5)
    tokens.revoke("alice")
    wait_for(lambda: doorkeeper.who(token) is None, seconds=3)


@pytest.mark.parametrize("token", ["", "x" * 39, "x" * 41, "x" * 39 + "-", "é" * 40, "x" * 39 + "\n", "x" * 100_000])
def test_what_has_not_the_form_of_a_token_is_not_looked_up(token: str) -> None:
    def load() -> dict[str, bytes]:
        raise AssertionError

    assert Doorkeeper(load).who(token) is None


def test_a_flood_of_wrong_tokens_costs_few_queries() -> None:
    loads = 0

    def load() -> dict[str, bytes]:
        nonlocal loads
        loads += 1
        return {}

    doorkeeper = Doorkeeper(load)
    for number in range(1000):
        assert doorkeeper.who(f"{number:040}") is None
    assert loads < 10


def test_a_database_that_is_away_is_not_asked_by_everybody() -> None:
    loads = 0

    def load() -> dict[str, bytes]:
        nonlocal loads
        loads += 1
        raise psycopg.OperationalError

    doorkeeper = Doorkeeper(load)
    for _ in range(10):
        with pytest.raises(UnreachableError):
            doorkeeper.who("x" * 40)
    assert loads == 2, "the second is for a connection that a restart has left dead"


def test_a_connection_that_a_restart_left_dead_is_not_the_end() -> None:
    answers: list[dict[str, bytes]] = [{"alice": hashlib.sha256(b"x" * 40).digest()}]

    def load() -> dict[str, bytes]:
        if len(answers) == 1:
            answers.append({})
            raise psycopg.OperationalError
        return answers[0]

    assert Doorkeeper(load).who("x" * 40) == "alice"
