"""`mbevents replication`: packets out of a master, into a mirror, verified."""

import typer

from ops.cli.replication import export, inspect, pause, status, sync, token, verify

app = typer.Typer(help="Replication: packets out of a master, into a mirror.", no_args_is_help=True)
for group in (export, sync, pause, status, verify, inspect, token):
    group.register(app)
