"""`mbevents replication sync`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ops.cli.common import AsJson, plural
from ops.cli.output import put_json, say

if TYPE_CHECKING:
    from workers.replication.sync.core import Pass

Follow = Annotated[bool, typer.Option("--follow", help="Go on until ended, looking every REPLICATION_SYNC_INTERVAL.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Apply at most so many packets.")]
BaseUrl = Annotated[str | None, typer.Option(help="Feed to follow (default: REPLICATION_BASE_URL).")]
OnDivergence = Annotated[
    Literal["fail", "warn", "repair"],
    typer.Option(help="What to do about rows that are not what a packet says they were."),
]


def register(app: typer.Typer) -> None:
    app.command()(sync)


def sync(
    *,
    follow: Follow = False,
    limit: Limit = None,
    base_url: BaseUrl = None,
    on_divergence: OnDivergence = "fail",
    as_json: AsJson = False,
) -> None:
    """Bring a mirror up to date: fetch the packets that follow, check them, apply each in one transaction.

    Exit code 0 also when there is nothing to do, or when another process is at it; 3 when the schema has to be
    upgraded first.
    """
    from ops.checks import database_check
    from ops.cli.common import load_settings, say_news, told
    from ops.service import running
    from ops.wiring import open_runtime
    from workers.replication.sync.service import HeldError

    settings = load_settings(service=follow, quiet_level="ERROR").settings
    with (
        told(settings),
        running("sync", settings) as service,
        open_runtime(settings, progress=say_news, telemetry=service.telemetry, with_redis=False) as parts,
    ):
        syncer = parts.syncer(
            base_url=base_url, on_divergence=on_divergence, stop=service.stop, hurry=service.hurry, say=say
        )
        try:
            if follow:
                with service.served({"database": database_check(parts)}):
                    done = syncer.follow(limit)
            else:
                done = syncer.once(limit)
        except HeldError:
            say("Another process brings this mirror up to date; nothing was done.")
            if as_json:
                put_json({"held": True})
            return
        if as_json:
            put_json({"held": False, **done.to_dict()})
        else:
            say(_summary(done))
        code = service.exit_code if service.stop.is_set() else 0
    raise typer.Exit(code)


def _summary(done: "Pass") -> str:
    from workers.replication.sync.core import span

    what = f"{plural(done.packets, 'packet')} with {plural(done.changes, 'change')} in {span(done.seconds)}"
    end = "it is up to date" if done.up_to_date else "it may be that there are more"
    return f"{what}; the mirror is at {done.last}, {end}."
