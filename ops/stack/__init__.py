"""The embedded servers: a private PostgreSQL and Redis under one home, shared by the processes that use it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from events.errors import MbeventsError
from ops.stack import control, sample, schema
from ops.stack.control import LOCK_SECONDS
from ops.stack.errors import EmbeddedServerError, disk_full
from ops.stack.keeper import KEPT
from ops.stack.locks import FileLock
from ops.stack.place import folder_of
from ops.stack.postgres import EmbeddedPostgres, make_home
from ops.stack.redis import EmbeddedRedis

DATABASE = "musicbrainz"


class Stack:
    """Servers that run; `close` lets go of them, and the last one to do so in this home stops them.

    Who cannot close them any more (kill -9) leaves that to the keeper, which stops them within two seconds.
    """

    def __init__(
        self,
        home: Path,
        postgres: EmbeddedPostgres | None,
        redis: EmbeddedRedis | None,
        started: Sequence[EmbeddedPostgres | EmbeddedRedis],
    ) -> None:
        self.home = home
        self.postgres = postgres
        self.redis = redis
        # By name: those that did not run before.
        self.started = [name for name, each in (("PostgreSQL", postgres), ("Redis", redis)) if each in started]
        self._user = FileLock(home / "users.lock", shared=True)
        if not self._user.acquire():
            raise EmbeddedServerError(f"{home / 'users.lock'} is locked by a process that is none of ours.")

    def database_url(self, database: str = DATABASE) -> str:
        assert self.postgres is not None
        return self.postgres.url(database)

    def redis_url(self, number: int = 0) -> str:
        assert self.redis is not None
        return self.redis.url(number)

    def keep(self) -> None:
        """Let the servers run without users, until `control.stop`."""
        (self.home / KEPT).touch()

    def revive(self) -> None:
        """Start again what died, unless another process was faster."""
        mine = [each for each in (self.postgres, self.redis) if each is not None]
        if all(server.pid is not None for server in mine):
            return
        with FileLock(self.home / "start.lock").held(LOCK_SECONDS):
            for server in mine:
                server.start()

    def close(self) -> None:
        """Stop the servers, unless another process uses them or they are kept."""
        with FileLock(self.home / "start.lock").held(LOCK_SECONDS):
            self._user.release()
            alone = FileLock(self.home / "users.lock")
            mine = [each for each in (self.redis, self.postgres) if each is not None]
            if (self.home / KEPT).exists() or not alone.acquire():
                for server in mine:
                    server.leave()
                return
            try:
                for server in mine:
                    server.stop()
                # What others started and left in our hands.
                control.stop_servers(self.home)
                control.end_keeper(self.home)
            finally:
                alone.release()

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(
    home: Path,
    *,
    postgres: bool = True,
    redis: bool = True,
    durable: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Stack:
    """Start what is asked for in `home`, or use what already runs there. `durable=False` is for tests."""
    home = folder_of(home)
    make_home(home)
    with FileLock(home / "start.lock").held(LOCK_SECONDS):
        database = EmbeddedPostgres(home, durable=durable, progress=progress) if postgres else None
        store = EmbeddedRedis(home, progress=progress) if redis else None
        started: list[EmbeddedPostgres | EmbeddedRedis] = []
        try:
            for server in (database, store):
                # Before it starts: a Ctrl-C may come while it does.
                if server is not None and server.pid is None:
                    started.append(server)
                if server is not None:
                    server.start()
            stack = Stack(home, database, store, started)
        except BaseException:
            # Only ours: what ran before is somebody else's.
            for server in started:
                server.stop()
            raise
        control.ensure_keeper(home)
        return stack


def ensure_musicbrainz(stack: Stack, *, database: str = DATABASE, progress: Callable[[str], None]) -> bool:
    """The real schema with its sample data in an embedded database; True if this call built it."""
    admin = stack.database_url("postgres")
    unfinished = f"{database}_unfinished"
    with FileLock(stack.home / "build.lock").held(LOCK_SECONDS):
        with psycopg.connect(admin, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
                return False
            # Left by a process that was killed while it built.
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(unfinished)))
        try:
            schema.create_database(admin, unfinished)
            schema.build(stack.database_url(unfinished), progress)
            progress("Loading MusicBrainz's sample data.")
            sample.load(stack.database_url(unfinished))
        except Exception as error:
            raise _full_disk(stack, error) or error from None
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(database))
            )
    return True


def _full_disk(stack: Stack, error: Exception) -> MbeventsError | None:
    """A server whose disk is full often just goes away; its log says why."""
    assert stack.postgres is not None
    log = stack.postgres.log
    said = log.read_bytes()[-4000:].decode(errors="replace") if log.exists() else ""
    return disk_full(stack.postgres.data, str(error), said)
