"""`mbevents replication export`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.common import AsJson, plural, runtime
from ops.cli.output import put_json, put_table, say, told_meanwhile

if TYPE_CHECKING:
    from workers.replication.export.core import Outlook

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be exported.")]


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Make the next packet of a master.

    A packet that could not be finished before is finished first. Where nothing has changed, there is none.
    """
    with runtime() as parts:
        if dry_run:
            _tell(parts.exporter.outlook(), as_json=as_json)
            return
        with told_meanwhile("Beginning") as progress:
            published = parts.exporter.export(say, progress)
    if as_json:
        put_json({"packets": [packet.to_event() for packet in published]})
        return
    if not published:
        return
    put_table(
        ("PACKET", "CHANGES", "TRANSACTIONS", "FILE", "BYTES"),
        (
            (each.sequence, each.changes, each.transactions, file.name, file.size)
            for each in published
            for file in each.files
        ),
    )
    say(f"Published {plural(len(published), 'packet')}.")


def _tell(outlook: "Outlook", *, as_json: bool) -> None:
    if as_json:
        put_json(outlook._asdict())
    elif outlook.sequence is None:
        say("Replication has not begun: the first export sets the sequence to 0, and makes no packet.")
    elif outlook.begun:
        say(f"Packet {outlook.sequence} is on its way, and would be finished first.")
    elif not outlook.changes:
        say("Nothing has changed since the last packet.")
    else:
        changes = f"{plural(outlook.changes, 'change')} of {plural(outlook.transactions, 'transaction')}"
        say(f"Packet {outlook.sequence}: {changes} would be exported, its own included. Nothing was done.")
