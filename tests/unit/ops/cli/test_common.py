import io
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis
from dramatiq.errors import ConnectionClosed

from events.errors import MbeventsError, UnreachableError, UsageError
from ops.cli import common
from ops.settings import Settings


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604800)])
def test_a_span_is_a_time_ago(text: str, seconds: int) -> None:
    assert abs(common.moment(text) - (datetime.now(UTC) - timedelta(seconds=seconds))) < timedelta(seconds=5)


def test_a_time_has_a_zone_whether_it_was_given_or_not() -> None:
    assert common.moment("2026-05-01T12:00+02:00") == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert common.moment("2026-05-01").tzinfo is not None


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7w", "2026-13-01"])
def test_what_is_no_time_is_told_with_what_would_be(text: str) -> None:
    with pytest.raises(UsageError, match="is no time: write 90s, 30m, 2h, 7d"):
        common.moment(text)


def test_event_types_are_those_of_the_catalogue() -> None:
    assert common.event_names(None) is None
    assert common.event_names(["edit.opened"]) == ["edit.opened"]
    with pytest.raises(UsageError, match=r"no event type 'edit.opend'. There are: edit.opened"):
        common.event_names(["edit.opend"])


def test_where_nobody_can_be_asked_yes_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(UsageError, match=r"This removes all\. Nothing was done: add --yes"):
        common.confirm(False, "This removes all.")
    common.confirm(True, "This removes all.")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            psycopg.OperationalError("refused\nmore"),
            r"PostgreSQL at postgresql://u:\*\*\*@db/mb does not answer: refused\.",
        ),
        (redis.ConnectionError("refused"), r"Redis \(redis://:\*\*\*@cache:6379/0, .* does not answer: refused"),
        (redis.TimeoutError("too slow"), "too slow"),
        (ConnectionClosed("Redis: gone"), "Redis: gone"),
    ],
)
def test_servers_that_do_not_answer_are_told_by_address_without_secrets(error: Exception, told: str) -> None:
    settings = Settings.model_validate(
        {"database_url": "postgresql://u:s3cret@db/mb", "redis_server": "redis://:s3cret@cache"}
    )
    with pytest.raises(UnreachableError, match=told) as caught, common.told(settings):
        raise error
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_code == 6


def test_a_rabbitmq_that_does_not_answer_is_not_called_redis() -> None:
    settings = Settings.model_validate({"redis_server": "cache", "broker_url": "amqp://u:s3cret@rabbit"})
    told = r"^RabbitMQ \(amqp://u:\*\*\*@rabbit\) does not answer: gone\. .* BROKER_URL"
    with pytest.raises(UnreachableError, match=told), common.told(settings):
        raise ConnectionClosed("gone")
    with pytest.raises(UnreachableError, match=r"^Redis \(.*/5\) does not answer: gone\."), common.told(settings):
        raise redis.ConnectionError("gone")


def test_a_database_without_our_tables_says_what_to_run() -> None:
    with pytest.raises(common.NotInstalledError, match="Run `mbevents db install`"), common.told(Settings()):
        raise psycopg.errors.UndefinedTable('relation "mbevents.event" does not exist')


def test_other_missing_tables_are_bugs() -> None:
    with pytest.raises(psycopg.errors.UndefinedTable), common.told(Settings()):
        raise psycopg.errors.UndefinedTable('relation "artist" does not exist')


def test_a_missing_right_is_told() -> None:
    with pytest.raises(MbeventsError, match="may not do this"), common.told(Settings()):
        raise psycopg.errors.InsufficientPrivilege("permission denied")


def test_numbers_are_told_with_their_noun() -> None:
    assert common.plural(1, "entry", "entries") == "1 entry"
    assert common.plural(1200, "event") == "1,200 events"


def test_an_embedded_database_that_was_never_made_is_not_made_by_a_question(tmp_path: Path) -> None:
    from ops.wiring import open_runtime

    settings = Settings(mbevents_home=tmp_path / "home")
    with pytest.raises(UnreachableError, match="Run `mbevents up` to make one"), open_runtime(settings):
        pass
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("configured", [{}, {"database_url": "postgresql://nowhere.invalid/mb"}])
def test_an_embedded_redis_that_was_never_made_is_not_made_by_a_question(
    tmp_path: Path, configured: dict[str, str]
) -> None:
    from ops.wiring import open_runtime

    settings = Settings.model_validate({**configured, "mbevents_home": tmp_path / "home"})
    with pytest.raises(UnreachableError, match=r"no embedded Redis .* `mbevents up` to make one, or set REDIS_SERVER"):
        open_runtime(settings, database=False).__enter__()
    assert not (tmp_path / "home").exists()
