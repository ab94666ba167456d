"""`mbevents bridge`."""

from typing import Annotated

import typer

from events.errors import UsageError
from ops.cli.common import AsJson, Yes, confirm
from ops.cli.output import put_json, say

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
        open_runtime(settings, progress=say_news, telemetry=service.telemetry) as parts,
    ):
        if reset:
            confirm(yes, "This makes the bridge forget up to where it has looked.")
            parts.bridge.reset()
            say("The bridge begins from now; changes that are still captured become events again.")
            return
        if drain:
            with parts.connection():
                # A server that is not there from the beginning is told as such.
                pass
            events = parts.bridge.drain()
            if as_json:
                put_json({"events": events})
            else:
                say(f"Published {plural(events, 'event')}.")
            return
        checks = {
            "database": database_check(parts),
            "pubsub": redis_check(parts, RedisRole.PUBSUB),
            "broker": redis_check(parts, RedisRole.BROKER),
        }
        with service.served(checks):
            parts.bridge.run(service.stop)
        raise typer.Exit(service.exit_code)
