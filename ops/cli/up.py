"""`mbevents up`: everything that there is, in one go."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
import typer

from ops.cli.output import say

if TYPE_CHECKING:
    from ops.wiring import Runtime

READY_SECONDS = 60.0
_LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


def register(app: typer.Typer) -> None:
    app.command()(up)


def up() -> None:
    """Run everything until Ctrl-C.

    That is bridge, worker, web and scheduler; with nothing configured also the servers, with a sample database.
    """
    from ops.cli.common import load_settings, told
    from ops.service import PORTS, running
    from ops.supervisor import Child, Supervisor, own_command
    from ops.web.address import listening
    from ops.wiring import open_runtime

    settings = load_settings(service=True).settings
    # Before anything is started: it would all have to end again.
    listening(settings.web_listen).close()
    with told(settings), running("up", settings) as service, open_runtime(settings, progress=say, create=True) as parts:
        _prepare(parts)
        _tell(parts)
        names = ["bridge", "worker", "web", "scheduler"]
        children = [Child(name, own_command(name)) for name in names]
        threading.Thread(target=_tell_when_ready, args=(parts, service.stop), daemon=True).start()
        with _servers_kept_up(parts):
            hopeless = Supervisor(children).run(service.stop, {**os.environ, PORTS: "3"})
        say("Stopped.")
        raise typer.Exit(service.exit_code if hopeless is None else hopeless)


def _prepare(parts: "Runtime") -> None:
    """An embedded database is made and installed into; a configured one is the operator's and only looked at."""
    from ops.wiring import ensure_database
    from producers.capture import service

    kind = parts.settings.replication_type
    if parts.settings.needs_embedded_postgres:
        ensure_database(parts, say)
        with parts.connection() as connection:
            service.install(connection, replication_type=kind)
        return
    with parts.connection() as connection:
        faults = service.check(connection, replication_type=kind).faults
    if faults:
        told = " ".join(f"{fault.what} {fault.fix}" for fault in faults[:3])
        raise faults[0].error(f"The database is not ready for `mbevents up`: {told}")


def _tell(parts: "Runtime") -> None:
    from ops.settings import RedisRole
    from ops.urls import hidden

    say(f"PostgreSQL: {hidden(parts.database_url)}")
    say(f"Redis: {hidden(parts.redis_url(RedisRole.ENTITIES))}")
    say(f"Web: http://{parts.settings.web_listen}/metrics, /healthz, /readyz")


@contextmanager
def _servers_kept_up(parts: "Runtime") -> Iterator[None]:
    """Embedded servers that are killed are started again: they have no service manager that would."""
    ended = threading.Event()

    def look() -> None:
        while parts.servers is not None and not ended.wait(_LOOK_SECONDS):
            try:
                parts.servers.revive()
            except Exception as error:
                # Whatever it is (a full disk, a lock that is held): the next look tries again.
                log.error("servers_not_started", error=str(error))  # noqa: TRY400 (its traceback tells nothing)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        # Else a server might be started after the others were stopped.
        thread.join()


def _tell_when_ready(parts: "Runtime", stop: threading.Event) -> None:
    began = time.monotonic()
    while not stop.wait(0.2):
        if _ready(parts):
            say(f"Running after {time.monotonic() - began:.1f} s. Ctrl-C ends it.")
            return
        if time.monotonic() - began > READY_SECONDS:
            say(f"Still not ready after {READY_SECONDS:.0f} s: `mbevents doctor` says what is missing.")
            return


def _ready(parts: "Runtime") -> bool:
    """Whether a bridge leads, a worker lives and the web process says that it is ready."""
    import http.client

    from ops import checks
    from ops.urls import parsed_listen

    # Not by urllib, which would ask a proxy that the environment names.
    web = http.client.HTTPConnection(*parsed_listen(parts.settings.web_listen), timeout=5)
    try:
        web.request("GET", "/readyz")
        if web.getresponse().status != http.HTTPStatus.OK:
            return False
        with checks.connected(parts) as connection:
            if checks.leader(connection) is None:
                return False
        return checks.workers_alive(parts) != 0
    except Exception:
        # Each kind of server has errors of its own, and any of them means: not yet.
        return False
    finally:
        web.close()
