"""The embedded servers: a private PostgreSQL and Redis under one home, shared by the processes that use it."""

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from ops.stack import sample, schema
from ops.stack.locks import FileLock
from ops.stack.postgres import EmbeddedPostgres, make_home
from ops.stack.redis import EmbeddedRedis

DATABASE = "musicbrainz"
_LOCK_SECONDS = 120.0


class Stack:
    """Servers that run; `close` lets go of them, and the last one to do so in this home stops them."""

    def __init__(self, home: Path, postgres: EmbeddedPostgres | None, redis: EmbeddedRedis | None) -> None:
        self.home = home
        self.postgres = postgres
        self.redis = redis
        self._user = FileLock(home / "users.lock", shared=True)
        self._user.acquire()

    def database_url(self, database: str = DATABASE) -> str:
        assert self.postgres is not None
        return self.postgres.url(database)

    def redis_url(self, number: int = 0) -> str:
        assert self.redis is not None
        return self.redis.url(number)

    def close(self) -> None:
        """Stop the servers, unless another process uses them."""
        with FileLock(self.home / "start.lock").held(_LOCK_SECONDS):
            self._user.release()
            alone = FileLock(self.home / "users.lock")
            for server in (self.redis, self.postgres):
                if server is None:
                    continue
                if alone.acquire():
                    server.stop()
                else:
                    server.leave()
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
    home = home.absolute()
    make_home(home)
    with FileLock(home / "start.lock").held(_LOCK_SECONDS):
        database = EmbeddedPostgres(home, durable=durable, progress=progress) if postgres else None
        store = EmbeddedRedis(home, progress=progress) if redis else None
        try:
            if database is not None:
                database.start()
            if store is not None:
                store.start()
        except BaseException:
            if database is not None:
                database.stop()
            raise
        return Stack(home, database, store)


def ensure_musicbrainz(stack: Stack, *, database: str = DATABASE, progress: Callable[[str], None]) -> bool:
    """The real schema with its sample data in an embedded database; True if this call built it."""
    admin = stack.database_url("postgres")
    unfinished = f"{database}_unfinished"
    with FileLock(stack.home / "build.lock").held(_LOCK_SECONDS):
        with psycopg.connect(admin, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
                return False
            # Left by a process that was killed while it built.
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(unfinished)))
        schema.create_database(admin, unfinished)
        schema.build(stack.database_url(unfinished), progress)
        progress("Loading MusicBrainz's sample data.")
        sample.load(stack.database_url(unfinished))
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(database))
            )
    return True
