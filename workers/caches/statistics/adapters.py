"""Counts in the tables of MusicBrainz, and requests in Redis."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import redis
from psycopg import sql
from psycopg.rows import dict_row

from events.sql import queries
from schemas.values import ENTITY_TYPES
from workers.leased.adapters import told

from .core import SURVEYS
from .service import CountFailedError, TableLockedError

# A request whose message was lost is forgotten after this.
ASKED_SECONDS = 60
# Who changes a table has it alone: it is counted later, and what comes after it now.
LOCK_SECONDS = 1.0


class PostgresCounts:
    """`connect`: an autocommitting connection of one's own for the length of a block, as it is kept for minutes."""

    def __init__(self, connect: Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]) -> None:
        self._connect = connect
        self._sql = _statements()

    def count(self, survey: str, *, seconds: float) -> Mapping[str, int | None]:
        # One statement, so one snapshot and the locks of one table: who wants to alter another does not wait for it.
        with self._connect() as connection:
            for setting, most in (("statement_timeout", seconds), ("lock_timeout", LOCK_SECONDS)):
                connection.execute("SELECT set_config(%s, %s, false)", (setting, f"{int(1000 * most)}ms"))
            # Of a worker that was killed the server stops counting.
            connection.execute("SELECT set_config('client_connection_check_interval', '1s', false)")
            try:
                return connection.cursor(row_factory=dict_row).execute(self._sql[survey]).fetchone() or {}
            except psycopg.errors.LockNotAvailable as error:
                raise TableLockedError(f"somebody has locked what {survey} is counted in") from error
            except psycopg.Error as error:
                if connection.closed:
                    raise
                raise CountFailedError(f"{type(error).__name__} after at most {seconds:.0f} s") from error


class RedisRequests:
    """`send` sends the message that a refresh is made of."""

    def __init__(self, client: "redis.Redis", key: str, send: Callable[[], object]) -> None:
        self._client = client
        self._key = key
        self._send = send

    def ask(self) -> None:
        """Raises StoreUnavailableError, and what `send` raises."""
        with told():
            first = self._client.set(self._key, 1, nx=True, ex=ASKED_SECONDS)
        if first:
            self._send()

    def hold(self, seconds: float) -> None:
        with told():
            self._client.set(self._key, 1, ex=int(seconds))

    def end(self) -> None:
        with told():
            self._client.delete(self._key)


def _statements() -> Mapping[str, Any]:
    named = queries(__package__)
    entities = sql.SQL(named["entities"])
    found: dict[str, Any] = {}
    for survey in SURVEYS:
        if survey.name in ENTITY_TYPES:
            (name,) = survey.statistics
            table = sql.Identifier("musicbrainz", survey.name)
            found[survey.name] = entities.format(name=sql.Identifier(name), table=table)
        else:
            found[survey.name] = named[survey.name]
    return found
