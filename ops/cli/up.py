"""`mbevents up`: everything that there is, in one go."""

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import typer

from ops.cli.output import say

if TYPE_CHECKING:
    from ops.settings import Settings
    from ops.wiring import Runtime

READY_SECONDS = 60.0


def register(app: typer.Typer) -> None:
    app.command()(up)


def up() -> None:
    """Run everything until Ctrl-C.

    That is bridge, worker and web; with nothing configured also the servers, with a sample database.
    """
    from ops.cli.common import load_settings, told
    from ops.service import PORTS, running
    from ops.supervisor import Child, Supervisor
    from ops.wiring import open_runtime

    settings = load_settings(service=True).settings
    with told(settings), running("up", settings) as service, open_runtime(settings, progress=say, create=True) as parts:
        _prepare(parts)
        _tell(parts)
        children = [Child(name, [sys.executable, "-m", "ops.cli", name]) for name in ("bridge", "worker", "web")]
        threading.Thread(target=_tell_when_ready, args=(settings, service.stop), daemon=True).start()
        hopeless = Supervisor(children).run(service.stop, {**os.environ, PORTS: "2"})
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


def _tell_when_ready(settings: "Settings", stop: threading.Event) -> None:
    import urllib.error
    import urllib.request

    began = time.monotonic()
    while not stop.wait(0.2):
        try:
            with urllib.request.urlopen(f"http://{settings.web_listen}/readyz", timeout=5):
                say(f"Running after {time.monotonic() - began:.1f} s. Ctrl-C ends it.")
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() - began > READY_SECONDS:
                say(f"Still not ready after {READY_SECONDS:.0f} s: `mbevents doctor` says what is missing.")
                return
