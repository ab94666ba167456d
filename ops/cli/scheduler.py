"""`mbevents scheduler`."""

import typer

from events.errors import UnreachableError


def register(app: typer.Typer) -> None:
    app.command()(scheduler)


def scheduler() -> None:
    """Send work that comes with the clock: counting statistics and, on a master, exports.

    Of several schedulers on one database one leads; the others stand by.
    """
    from ops.checks import database_check, redis_check
    from ops.cli.common import load_settings, say_news, told
    from ops.service import running
    from ops.settings import RedisRole
    from ops.wiring import open_runtime

    settings = load_settings(service=True).settings
    with (
        told(settings),
        running("scheduler", settings) as service,
        open_runtime(settings, progress=say_news, telemetry=service.telemetry, create_redis=True) as parts,
    ):
        found = parts.scheduler

        def connected() -> None:
            if not found.connected:
                raise UnreachableError("the scheduler has no connection to the database")

        checks = {
            "database": database_check(parts),
            "broker": redis_check(parts, RedisRole.BROKER),
            "scheduler": connected,
        }
        with service.served(checks):
            found.run(service.stop)
        raise typer.Exit(service.exit_code)
