"""Redis and Postgres behind the sessions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.resources import files
from typing import Any

import psycopg
import redis
import structlog
from psycopg.rows import tuple_row

from events.sql import queries
from schemas.editor import SPAMMER

from .core import MOST_BYTES, Session, decode, too_big
from .service import MOST_SESSIONS, SessionsUnavailableError

log = structlog.get_logger(__name__)

PACKAGE = "workers.accounts.sessions"
# For replicas: less than what is waited for an answer.
WAIT_MS = 500

Connect = Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]
"""An autocommitting connection for the length of a block."""


class RedisSessions:
    """Sessions in their Redis: a hash each, and a sorted set of them for each editor.

    `MB:session:<SHA-256 of the id>`, `MB:sessions:editor:<id>`, `MB:sessions:clock`. MusicBrainz Server may have the
    same database: its own sessions are `MB:session:<40 digits>`, ours have 64. `seconds` that a session lasts,
    `idle_seconds` that it may be unused, `most` of one editor; `replicas` that must know of an end before it is told.
    Clients must not decode responses; they may repeat commands.
    """

    def __init__(
        self,
        client: "redis.Redis",
        *,
        namespace: str = "MB",
        seconds: float,
        idle_seconds: float,
        most: int = MOST_SESSIONS,
        replicas: int = 0,
    ) -> None:
        self._client = client
        self._prefix = f"{namespace}:session:"
        self._beside = f"{namespace}:sessions:"
        self._lasts_ms = int(seconds * 1000)
        self._idle_ms = int(idle_seconds * 1000)
        self._most = most
        self._replicas = replicas
        package = files(PACKAGE)

        def script(name: str) -> Any:
            shared, own = (package.joinpath(f"{each}.lua").read_bytes() for each in ("standing", name))
            return client.register_script(shared + b"local function run()\n" + own + b"end\nreturn done(run())\n")

        self._scripts = {name: script(name) for name in ("open", "read", "write", "end", "end_all", "list")}

    def open(self, name: str, editor_id: int | None, data: Mapping[bytes, bytes], *, old: str | None) -> Session:
        keys = [self._prefix + each for each in (name, old) if each is not None]
        who = "" if editor_id is None else editor_id
        opened = _session(self._run("open", keys, who, self._lasts_ms, self._idle_ms, self._most, *_flat(data)))
        assert opened is not None
        return opened

    def read(self, name: str, *, renew: bool) -> Session | None:
        answer = self._run("read", [self._prefix + name], self._idle_ms if renew else "")
        return None if answer is None else _session(answer)

    def write(self, name: str, data: Mapping[bytes, bytes]) -> bool:
        written = self._run("write", [self._prefix + name], MOST_BYTES, *_flat(data))
        if written < 0:
            raise too_big()
        return bool(written)

    def end(self, name: str, *, everywhere: bool) -> int:
        return self._end("end", [self._prefix + name], int(everywhere))

    def end_all(self, editor_id: int) -> int:
        return self._end("end_all", [f"{self._beside}editor:{editor_id}"])

    def of_editor(self, editor_id: int) -> list[Session]:
        found = map(_session, self._run("list", [f"{self._beside}editor:{editor_id}"]))
        return [session for session in found if session is not None]

    def _run(self, script: str, keys: Sequence[str], *args: Any) -> Any:
        with _told():
            return self._scripts[script](keys, [self._beside, *args])

    def _end(self, script: str, keys: Sequence[str], *args: Any) -> int:
        if not self._replicas:
            return int(self._run(script, keys, *args))
        with _told(), self._client.pipeline(transaction=False) as commands:
            self._scripts[script](keys, [self._beside, *args], commands)
            # Over the same connection: it is for what that has written.
            commands.wait(self._replicas, WAIT_MS)
            ended, reached = commands.execute()
        if reached < self._replicas:
            raise SessionsUnavailableError(
                f"Sessions were ended, but {reached} of {self._replicas} replicas know of it: another one may take "
                "over and bring them back. Ask again; check the replication, or set SESSION_REPLICAS lower."
            )
        return int(ended)


class PostgresEditors:
    """Accounts, from the table of MusicBrainz."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sql = queries(PACKAGE)

    def may_sign_in(self, editor_id: int) -> bool:
        with self._connect() as connection, connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(self._sql["may_sign_in"], {"editor_id": editor_id, "spammer": SPAMMER})
            row = cursor.fetchone()
        return row is not None and bool(row[0])


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        # Only its kind: scripts that fail quote what they were given.
        raise SessionsUnavailableError(
            f"Redis of the sessions does not answer as it should ({type(error).__name__}). "
            "Check that it runs, that it has memory left, and that REDIS_SESSIONS_URL or REDIS_SERVER is right."
        ) from error


def _session(answer: Sequence[Any]) -> Session | None:
    idle_ends, flat = answer
    session = decode(idle_ends, dict(zip(flat[::2], flat[1::2], strict=True)))
    if session is None:
        log.warning("session_not_understood")
    return session


def _flat(fields: Mapping[bytes, bytes]) -> Iterator[bytes]:
    for name, value in fields.items():
        yield name
        yield value
