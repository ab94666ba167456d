"""`mbevents db`: what we put into the database."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.common import AsJson, Yes, confirm, plural, runtime
from ops.cli.output import mark, put, put_json, say

if TYPE_CHECKING:
    from producers.capture.core import Plan

app = typer.Typer(help="What is installed in the database.", no_args_is_help=True)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")]
LockTimeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for tables that others use.")]
Discard = Annotated[bool, typer.Option("--discard", help="Also throw away changes and work that nobody did yet.")]


@app.command()
def init() -> None:
    """Make the embedded database.

    The real MusicBrainz schema, with its sample data.
    """
    from ops.wiring import ensure_database

    with runtime(create=True, redis=False) as parts:
        say("The database is made." if ensure_database(parts, say) else "The database is there already.")


@app.command()
def install(dry_run: DryRun = False, lock_timeout: LockTimeout = 10.0, as_json: AsJson = False) -> None:
    """Install capture, log, ledger and queues.

    In one transaction, and only what is missing.
    """
    from producers.capture import service

    with runtime(redis=False) as parts, parts.connection() as connection:
        plan = service.install(
            connection,
            replication_type=parts.settings.replication_type,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
        )
        _print(plan, dry_run, as_json, f"Installed in {connection.info.dbname}", "Everything is installed already.")


@app.command()
def check(as_json: AsJson = False) -> None:
    """Compare what is installed with what should be.

    Exit code 1 if something is wrong, 3 if it is a version that this release does not know.
    """
    from events.errors import VersionMismatchError
    from producers.capture import service

    with runtime(redis=False) as parts, parts.connection() as connection:
        report = service.check(connection, replication_type=parts.settings.replication_type)
    if as_json:
        put_json(report.to_dict())
    elif report.ok:
        foreign = ", by the triggers of dbmirror2 that were there" if report.foreign else ""
        put(f"{mark(True)}  version {report.version}; {plural(report.captured, 'table')} captured{foreign}")
    for fault in () if as_json else report.faults:
        put(f"{mark(False)}  {fault.what}")
        put(f"       fix: {fault.fix}")
    if not report.ok:
        unknown = any(issubclass(fault.error, VersionMismatchError) for fault in report.faults)
        raise typer.Exit(VersionMismatchError.exit_code if unknown else 1)


@app.command()
def uninstall(
    *,
    dry_run: DryRun = False,
    discard: Discard = False,
    lock_timeout: LockTimeout = 10.0,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take away what is ours.

    Capture, the event log, ledger and dead letters; never what was there before, and no row of MusicBrainz.
    """
    from producers.capture import service

    with runtime(redis=False) as parts, parts.connection() as connection:
        if not dry_run:
            confirm(yes, f"This takes the event log and all that is ours out of {connection.info.dbname}.")
        plan = service.uninstall(connection, discard=discard, dry_run=dry_run, lock_timeout=lock_timeout)
        _print(plan, dry_run, as_json, f"Taken out of {connection.info.dbname}", "There is nothing of ours.")


def _print(plan: "Plan", dry_run: bool, as_json: bool, done: str, nothing: str) -> None:
    if as_json:
        put_json(plan.to_dict())
        return
    for line in plan.lines:
        put(line)
    if not plan.steps:
        say(nothing)
    else:
        say(f"{plural(len(plan.steps), 'step')} would be done." if dry_run else f"{done}.")
