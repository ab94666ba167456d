"""`mbevents bridge`."""

from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import UnreachableError, UsageError
from ops.cli.common import AsJson, Yes, confirm
from ops.cli.output import put_json, say

if TYPE_CHECKING:
    from producers.bridge.service import Status

Drain = Annotated[bool, typer.Option("--drain", help="Do what is there, and end.")]

Reset = Annotated[bool, typer.Option("--reset", help="After a restore into a new cluster: begin from now, and end.")]


def register(app: typer.Typer) -> None:
    app.command()(bridge)


def bridge(drain: Drain = False, reset: Reset = False, yes: Yes = False, as_json: AsJson = False) -> None:
    """Turn changes into events; publish them.

    Of several bridges on one database one leads; the others stand by, and take over within two seconds.
    """
    from ops.checks import database_check, redis_check
    from ops.cli.common import load_settings, plural, say_news, told
    from ops.service import running
    from ops.settings import RedisRole
    from ops.wiring import open_runtime

    if drain and reset:
        raise UsageError("--drain and --reset are two things: do one after the other.")
    settings = load_settings(service=not (drain or reset)).settings
    with (
        told(settings),
        running("bridge", settings) as service,
        open_runtime(settings, progress=say_news, telemetry=service.telemetry, create_redis=True) as parts,
    ):
        if reset:
            confirm(yes, "This makes the bridge forget up to where it has looked.")
            parts.bridge.reset()
            if as_json:
                put_json({"reset": True})
            else:
                say("The bridge begins from now; changes that are still captured became events again.")
            return
        if drain:
            with parts.connection():
                # A server that is not there from the beginning is told as such.
                pass
            events = parts.bridge.drain(service.stop)
            if as_json:
                put_json({"events": events})
            else:
                say(f"Published {plural(events, 'event')}.")
            raise typer.Exit(service.exit_code if service.stop.is_set() else 0)
        checks = {
            "database": database_check(parts),
            "pubsub": redis_check(parts, RedisRole.PUBSUB),
            "broker": redis_check(parts, RedisRole.BROKER),
            "bridge": lambda: _connected(parts.bridge.status),
        }
        with service.served(checks):
            parts.bridge.run(service.stop)
        raise typer.Exit(service.exit_code)


def _connected(status: "Status") -> None:
    if not status.connected:
        raise UnreachableError(f"the bridge has no connection that it can work on ({status.problem})")
