"""Real servers for every test: one private PostgreSQL and Redis for the whole run, a fresh database for each test."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest
import redis
from psycopg import sql

import ops.stack
from ops.stack import Stack
from producers.capture.service import install
from tests.redis_process import RedisProcess

TEMPLATE = "musicbrainz"

# The time that an example takes is the machine's affair.
hypothesis.settings.register_profile(
    "busy", hypothesis.settings.default, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded servers of this run, with the real schema and sample data as a template."""
    # Not pytest's own folder: its long path does not fit into a socket's name.
    with tempfile.TemporaryDirectory(prefix="mbe-", dir=quick_folder()) as home:
        os.chmod(home, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        with ops.stack.start(Path(home), durable=False) as running:
            ops.stack.ensure_musicbrainz(running, database=TEMPLATE, progress=lambda _: None)
            yield running


def quick_folder() -> str | None:
    """Memory, if there is enough: a database is over two thousand files, and each test has its own."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 2**31 else None


def make_clone(stack: Stack, template: str) -> str:
    """The name of a fresh database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = musicbrainz, public").format(sql.Identifier(name))
        )
    return name


@contextmanager
def cloning(stack: Stack) -> Iterator[Callable[[str], str]]:
    """Makes fresh databases from a template; each is dropped in the end."""
    made: list[str] = []

    def make(template: str = TEMPLATE) -> str:
        made.append(make_clone(stack, template))
        return stack.database_url(made[-1])

    yield make
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def clone(stack: Stack) -> Iterator[Callable[[str], str]]:
    """Makes fresh databases from a template; each is dropped when the test ends."""
    with cloning(stack) as make:
        yield make


@pytest.fixture
def database(clone: Callable[[str], str]) -> str:
    """URL of a fresh MusicBrainz database: the real schema, the sample data, nothing of ours."""
    return clone(TEMPLATE)


@pytest.fixture(scope="session")
def captured_template(stack: Stack) -> str:
    """Name of a template with capture, log, ledger and queues installed."""
    name = "captured"
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
        )
    install(stack.database_url(name))
    return name


@pytest.fixture
def captured(captured_template: str, clone: Callable[[str], str]) -> str:
    """URL of a fresh MusicBrainz database with everything of ours installed."""
    return clone(captured_template)


@pytest.fixture
def redis_server(stack: Stack) -> Iterator[Stack]:
    """The run's Redis, empty: `redis_server.redis_url(n)` for each role."""
    client = redis.Redis.from_url(stack.redis_url())
    client.flushall()
    yield stack
    client.flushall()
    client.close()


@pytest.fixture
def start_redis() -> Iterator[Callable[..., RedisProcess]]:
    """Starts servers that the test may kill."""
    made: list[RedisProcess] = []
    # Not pytest's own folder: its long path does not fit into a socket's name.
    with tempfile.TemporaryDirectory(prefix="mbe-", dir=quick_folder()) as folder:

        def start(*, master: RedisProcess | None = None) -> RedisProcess:
            made.append(RedisProcess(Path(folder), master=master))
            return made[-1]

        yield start
        for each in made:
            each.kill()
