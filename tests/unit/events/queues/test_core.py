"""Decisions about messages."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from dramatiq import Message
from hypothesis import given
from hypothesis import strategies as st

from events.queues.core import (
    ERROR_LIMIT,
    backoff_ms,
    bounded,
    describe,
    malformed,
    redis_id,
    unfit,
    unknown_version,
)


def sent(**changes: Any) -> Any:
    fields = {"queue_name": "q", "actor_name": "a", "args": (), "kwargs": {}, "options": {}, "message_id": "m"}
    return Message(**{**fields, **changes})


def test_ledgered_work_has_one_id_however_often_it_is_sent_and_tried() -> None:
    assert redis_id({"task_id": 7}) == redis_id({"task_id": 7, "retries": 3, "redis_message_id": "x"}) == "7"


def test_other_work_has_a_new_id_each_time() -> None:
    assert redis_id({}) != redis_id({})


def test_a_message_of_ours_is_fit() -> None:
    assert unfit(sent(options={"task_id": 2**63 - 1, "retries": 2}), "q", {"a"}) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"message_id": 1}, "message_id is not a str"),
        ({"actor_name": None}, "actor_name is not a str"),
        ({"queue_name": []}, "queue_name is not a str"),
        ({"kwargs": []}, "kwargs is not a dict"),
        ({"options": None}, "options is not a dict"),
        ({"options": {"retries": "2"}}, "retries is not a number"),
        ({"options": {"retries": -1}}, "retries is not a number"),
        ({"options": {"refusals": "9"}}, "refusals is not a number"),
        ({"options": {"task_id": 2**63}}, "task_id is not a number"),
        ({"options": {"task_id": True}}, "task_id is not a number"),
        ({"options": {"task_id": None}}, "task_id is not a number"),
    ],
)
def test_a_malformed_message_is_told_from_one_that_could_run(changes: dict[str, Any], told: str) -> None:
    assert told in str(malformed(sent(**changes)))
    assert told in str(unfit(sent(**changes), "q", {"a"}))


def test_a_message_is_not_run_from_another_queue_or_by_another_actor() -> None:
    assert "another queue than r" in str(unfit(sent(), "r", {"a"}))
    assert "no actor is called 'a'" in str(unfit(sent(), "q", {"b"}))


def test_versions() -> None:
    assert unknown_version({}, {1}) is None
    assert unknown_version({"version": 1}, {1, 2}) is None
    assert "this release knows 1, 2" in str(unknown_version({"version": 3}, {2, 1}))
    assert unknown_version({"version": "1"}, {1}) is not None
    assert unknown_version({"version": []}, {1}) is not None


@given(st.integers(0, 10_000), st.integers(1, 5_000), st.integers(1, 1_000_000))
def test_a_retry_waits_at_least_the_least_and_never_more_than_the_most(retries: int, least: int, most: int) -> None:
    wait = backoff_ms(retries, least=least, most=most)
    assert least <= wait <= max(least, most)


def test_the_wait_doubles() -> None:
    assert max(backoff_ms(0, least=100, most=10**9) for _ in range(200)) <= 200
    assert max(backoff_ms(5, least=100, most=10**9) for _ in range(200)) > 3_000


def raised(work: Callable[[], object]) -> BaseException:
    try:
        work()
    except ValueError as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_error_is_told_with_its_causes_and_where_it_happened() -> None:
    def work() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    told = describe(raised(work))
    assert told.startswith("ValueError: outer\n")
    assert "Caused by KeyError: 'inner'" in told
    assert "test_core.py" in told


def test_a_suppressed_context_is_not_told() -> None:
    def work() -> None:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None

    assert "inner" not in describe(raised(work))


def test_an_endless_chain_of_causes_ends() -> None:
    error = ValueError("self")
    error.__cause__ = error
    assert describe(error) == "ValueError: self"


def test_what_postgres_quotes_of_rows_is_not_told() -> None:
    class WithDiagnostics(psycopg.Error):
        @property
        def diag(self) -> Any:
            return type("Diag", (), {"message_primary": "duplicate key value"})

    assert "secret" not in describe(WithDiagnostics("duplicate key value\nDETAIL: Key (password)=(secret)"))


@given(st.text(max_size=200), st.from_regex(r"[a-z]{1,9}@[a-z]{1,9}\.org", fullmatch=True))
def test_no_e_mail_address_and_no_nul_is_kept(before: str, address: str) -> None:
    kept = bounded(f"{before} {address}")
    assert address not in kept
    assert "\0" not in kept


def test_an_error_is_not_endless() -> None:
    def work() -> None:
        raise ValueError("x" * 100_000)

    assert len(describe(raised(work))) <= ERROR_LIMIT
    assert len(bounded("x" * 100_000)) <= ERROR_LIMIT
