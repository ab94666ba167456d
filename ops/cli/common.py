"""What commands share: their settings and parts, errors of servers in words, times and confirmations."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import MbeventsError, UnreachableError, UsageError

if TYPE_CHECKING:
    from ops.loading import Loaded
    from ops.settings import Settings
    from ops.wiring import Runtime

AsJson = Annotated[bool, typer.Option("--json", help="Print the data as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: it is meant.")]

INTERRUPTED = 130

_SPAN = re.compile(r"(\d+)([smhd])")
# SQLSTATEs of a connection that fails and of a server that stops or starts.
_GOING_AWAY = ("08", "57P")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class NotInstalledError(MbeventsError):
    """The database has nothing of ours."""


def load_settings(*, service: bool = False, quiet_level: str = "WARNING") -> "Loaded":
    """Read the settings and set up logs and error reports. Commands that end by themselves log from `quiet_level` on,
    unless LOG_LEVEL says otherwise: ERROR is for those that say themselves what they warn of."""
    from ops import loading, logs, sentry
    from ops.version import version

    loaded = loading.load()
    found = loaded.settings
    quiet = not service and found.log_level == "INFO"
    observers = ()
    if found.sentry_dsn is not None:
        sentry.start(found.sentry_dsn.get_secret_value(), release=version(), environment=found.sentry_environment)
        observers = (sentry.observer,)  # type: ignore[assignment]  # one or none
    logs.configure(form=found.log_format, level=quiet_level if quiet else found.log_level, observers=observers)
    return loaded


@contextmanager
def runtime(
    *, create: bool = False, database: bool = True, redis: bool = True, quiet_level: str = "WARNING"
) -> Iterator["Runtime"]:
    """The parts for one command; errors of servers come out as ours. `quiet_level` as for `load_settings`."""
    from ops.wiring import open_runtime

    found = load_settings(quiet_level=quiet_level).settings
    with (
        told(found),
        open_runtime(found, progress=say_news, create=create, database=database, with_redis=redis) as parts,
    ):
        yield parts


def say_news(text: str) -> None:
    """That servers run already is news to who starts something, not to who asks a question."""
    from ops.cli.output import say

    if "is already running" not in text:
        say(text)


@contextmanager
def told(found: "Settings") -> Iterator[None]:
    """Servers that do not answer become errors with their address and what to do."""
    try:
        yield
    except MbeventsError:
        raise
    except Exception as error:
        ours = _in_words(found, error)
        if ours is None:
            raise
        raise ours from error


def _in_words(found: "Settings", error: Exception) -> MbeventsError | None:
    # Imported here: a command that has no errors needs not all of them.
    import psycopg
    import redis
    from dramatiq.errors import BrokerConnectionError
    from psycopg_pool import PoolTimeout

    if isinstance(error, psycopg.Error | PoolTimeout):
        return _of_postgres(found, error)
    if isinstance(error, BrokerConnectionError | redis.RedisError):
        return _of_redis(found, error)
    return None


def _of_postgres(found: "Settings", error: Exception) -> MbeventsError | None:
    import psycopg
    import psycopg.errors

    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        if "mbevents." not in str(error):
            return None
        return NotInstalledError(f"There is no event log in {_database(found)}. Run `mbevents db install`.")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return MbeventsError(
            f"The user of DATABASE_URL may not do this in {_database(found)}: {error.diag.message_primary}. "
            "Connect as the owner of the schema, or have the right granted."
        )
    if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError):
        return None
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is not None and not state.startswith(_GOING_AWAY):
        # A full disk, a lock, a timeout: it answers, and says no.
        return MbeventsError(f"PostgreSQL at {_database(found)} could not do this: {_reason(error)}. Try it again.")
    return UnreachableError(
        f"PostgreSQL at {_database(found)} does not answer: {_reason(error)}. "
        "Check that it runs and that DATABASE_URL is right (`mbevents config` shows it)."
    )


def _of_redis(found: "Settings", error: Exception) -> MbeventsError:
    import redis
    from dramatiq.errors import BrokerConnectionError

    rabbitmq = _rabbitmq(found) if isinstance(error, BrokerConnectionError) else None
    what = f"Redis ({_redis(found)})" if rabbitmq is None else f"RabbitMQ ({rabbitmq})"
    names = "REDIS_SERVER or the role's URL" if rabbitmq is None else "BROKER_URL"
    if isinstance(error, redis.RedisError) and not isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return MbeventsError(
            f"{what} refuses this: {_reason(error)}. "
            f"Check that {names} is right (`mbevents config` shows what is set), and what `mbevents doctor` says of it."
        )
    return UnreachableError(
        f"{what} does not answer: {_reason(error)}. "
        f"Check that it runs and that {names} is right (`mbevents config` shows what is set)."
    )


def _database(found: "Settings") -> str:
    from ops.urls import hidden

    if found.database_url is None:
        return f"the embedded server in {found.mbevents_home}"
    return hidden(found.database_url.get_secret_value())


def _redis(found: "Settings") -> str:
    from ops.settings import RedisRole
    from ops.urls import hidden

    given = (found.redis_url(role) for role in RedisRole)
    urls = {hidden(url) for url in given if url is not None and not url.startswith("amqp")}
    return ", ".join(sorted(urls)) or f"the embedded one in {found.mbevents_home}"


def _rabbitmq(found: "Settings") -> str | None:
    from ops.settings import RedisRole
    from ops.urls import hidden

    url = found.redis_url(RedisRole.BROKER)
    return hidden(url) if url is not None and url.startswith("amqp") else None


def _reason(error: BaseException) -> str:
    from ops.private import scrubbed

    lines = [line.strip() for line in scrubbed(str(error)).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def moment(text: str) -> datetime:
    """A time that a person gave: `2h` ago, `7d` ago, `2026-05-01`, or with a time of day. Raises UsageError."""
    span = _SPAN.fullmatch(text.strip())
    try:
        if span is not None:
            return datetime.now(UTC) - timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
        found = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r:.60} is no time: write 90s, 30m, 2h, 7d (ago) or 2026-05-01T12:00.") from None
    return found if found.tzinfo is not None else found.astimezone()


def optional_moment(text: str | None) -> datetime | None:
    return None if text is None else moment(text)


def comparable(text: str | None) -> str | None:
    """For text that is compared with what PostgreSQL has: bytes that are not UTF-8, and NUL, are nowhere in it."""
    if text is not None and ("\0" in text or any("\ud800" <= each <= "\udfff" for each in text)):
        raise typer.BadParameter("it must be UTF-8 without NUL.")
    return text


def event_names(names: list[str] | None) -> list[str] | None:
    """Names of event types as the catalogue has them. Raises UsageError."""
    from events.catalogue import event_type

    return [event_type(name).name for name in names] if names else None


def confirm(yes: bool, what: str) -> None:
    """Have a person agree. Where nobody can be asked, `--yes` is needed. Raises UsageError."""
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what} Nothing was done: add --yes if that is meant.")
    try:
        agreed = typer.confirm(f"{what} Do it?", err=True)
    except typer.Abort:
        # Ctrl-C here is the same as elsewhere.
        raise typer.Exit(INTERRUPTED) from None
    if not agreed:
        raise UsageError("Nothing was done.")


def plural(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
