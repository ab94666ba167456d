import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from ops.metrics import PrometheusTelemetry, make_registry
from ops.service import Service
from ops.settings import Settings
from ops.stack import Stack, control
from ops.web import server
from ops.wiring import Runtime, open_runtime
from producers.capture import service as capture
from tests.conftest import TEMPLATE, quick_folder
from tests.ports import free_port
from tests.waiting import wait_for

INSTALLED = "ops_installed"


@pytest.fixture(scope="session")
def installed_template(stack: Stack) -> str:
    """Name of a template with everything of ours installed."""
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        names = sql.Identifier(INSTALLED), sql.Identifier(TEMPLATE)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    capture.install(stack.database_url(INSTALLED))
    return INSTALLED


@pytest.fixture
def settings(installed_template: str, clone: Callable[[str], str], redis_server: Stack) -> Settings:
    """Of a fresh database with everything installed, and the run's Redis."""
    return Settings.model_validate(
        {"database_url": clone(installed_template), "redis_server": redis_server.redis_url().partition("?")[0]}
    )


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """All parts; a metric that is not declared fails the test."""
    with open_runtime(settings, telemetry=PrometheusTelemetry(make_registry("test"))) as parts:
        yield parts


def rename(runtime: Runtime, mark: str = "!") -> int:
    """Change every artist of the sample; how many there are."""
    with runtime.connection() as connection:
        return connection.execute("UPDATE musicbrainz.artist SET name = name || %s WHERE id > 2", (mark,)).rowcount


@pytest.fixture
def port(runtime: Runtime, settings: Settings) -> Iterator[int]:
    """Where the web process of `runtime` listens."""
    port = free_port()
    service = Service("web", settings.model_copy(update={"web_listen": f"127.0.0.1:{port}"}))
    thread = threading.Thread(target=server.serve, args=(runtime, service))
    thread.start()
    try:
        wait_for(lambda: listens(port))
        yield port
    finally:
        service.stop.set()
        thread.join(10)
    assert not thread.is_alive()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of its own for embedded servers, at a short path."""
    parent = Path(tempfile.mkdtemp(prefix="mbe-", dir=quick_folder()))
    parent.chmod(0o755)
    yield parent / "home"
    control.stop_servers(parent / "home")
    control.end_keeper(parent / "home")
    shutil.rmtree(parent)
