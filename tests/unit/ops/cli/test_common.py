import io
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis
import typer
from dramatiq.errors import ConnectionClosed
from psycopg_pool import PoolTimeout

from events.errors import (
    MbeventsError,
    NotFoundError,
    PartlyDoneError,
    UnreachableError,
    UsageError,
    VersionMismatchError,
)
from ops.cli import common
from ops.settings import Settings
from ops.stack.errors import EmbeddedServerError
from producers.bridge.publishing import PublishFailedError
from workers.leased.service import StoreUnavailableError
from workers.middleware import LedgerAwayError


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


AWAY, NO = UnreachableError.exit_code, MbeventsError.exit_code


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (psycopg.OperationalError("connection refused"), AWAY, "does not answer: connection refused"),
        (psycopg.errors.AdminShutdown("terminating"), AWAY, "does not answer: terminating"),
        (psycopg.errors.CannotConnectNow("starting up"), AWAY, "does not answer: starting up"),
        (psycopg.errors.ConnectionFailure("lost"), AWAY, "does not answer: lost"),
        (PoolTimeout("no connection after 5 s"), AWAY, "does not answer: no connection"),
        (psycopg.errors.DiskFull("no space"), NO, "could not do this: no space"),
        (psycopg.errors.LockNotAvailable("locked"), NO, "could not do this: locked"),
        (psycopg.errors.QueryCanceled("statement timeout"), NO, "could not do this: statement timeout"),
        (psycopg.errors.InsufficientPrivilege("denied"), NO, "may not do this"),
        (psycopg.errors.UndefinedTable('relation "mbevents.event"'), NO, "no event log"),
        (redis.ConnectionError("refused"), AWAY, "does not answer: refused"),
        (redis.TimeoutError("slow"), AWAY, "does not answer: slow"),
        (redis.AuthenticationError("WRONGPASS"), AWAY, "does not answer: WRONGPASS"),
        (redis.ResponseError("DB index is out of range"), NO, "refuses this: DB index is out of range"),
        (redis.exceptions.OutOfMemoryError("OOM command not allowed"), NO, "refuses this: OOM"),
        (ConnectionClosed("Redis: gone"), AWAY, "does not answer: Redis: gone"),
        (PublishFailedError("The queues do not take messages."), AWAY, "The queues do not take messages."),
        (StoreUnavailableError("The cache is away."), AWAY, "The cache is away."),
        (LedgerAwayError("The ledger is away."), AWAY, "The ledger is away."),
        (common.NotInstalledError("Nothing."), NO, "Nothing."),
        (EmbeddedServerError("It does not start."), NO, "It does not start."),
        (UsageError("Nonsense."), 2, "Nonsense."),
        (VersionMismatchError("Newer."), 3, "Newer."),
        (NotFoundError("Not there."), 4, "Not there."),
        (PartlyDoneError("Half."), 5, "Half."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_has_its_exit_code(error: Exception, code: int, told: str) -> None:
    with pytest.raises(MbeventsError) as caught, common.told(Settings()):
        raise error
    assert caught.value.exit_code == code
    assert told in str(caught.value)


def test_ctrl_c_at_a_question_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def aborted(*_: object, **__: object) -> bool:
        raise typer.Abort

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", aborted)
    with pytest.raises(typer.Exit) as ended:
        common.confirm(False, "This removes all.")
    assert ended.value.exit_code == 130
