"""`mbevents replication export`."""

from typing import Annotated

import typer

from ops.cli.common import AsJson, plural, runtime
from ops.cli.output import put_json, put_table, say

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be exported.")]


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Make the next packet of a master.

    A packet that could not be finished before is finished first. Where nothing has changed, there is none.
    """
    with runtime() as parts:
        if dry_run:
            outlook = parts.exporter.outlook()
        else:
            published = parts.exporter.export()
    if dry_run:
        if as_json:
            put_json(outlook._asdict())
        elif outlook.sequence is None:
            say("Replication has not begun: the first export sets the sequence to 0, and makes no packet.")
        else:
            state = "It is on its way, and will be finished." if outlook.begun else "Nothing was done."
            changes = f"{plural(outlook.changes, 'change')} of {plural(outlook.transactions, 'transaction')}"
            say(f"Packet {outlook.sequence}: {changes} would be exported. {state}")
        return
    if as_json:
        put_json({"packets": [packet.to_event() for packet in published]})
        return
    put_table(
        ("PACKET", "CHANGES", "TRANSACTIONS", "FILE", "BYTES"),
        (
            (each.sequence, each.changes, each.transactions, file.name, file.size)
            for each in published
            for file in each.files
        ),
    )
    say(f"Published {plural(len(published), 'packet')}." if published else "Nothing has changed since the last packet.")
