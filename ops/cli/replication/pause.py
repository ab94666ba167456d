"""`mbevents replication pause` and `resume`."""

import typer

from ops.cli.common import AsJson, runtime
from ops.cli.output import put_json, say


def register(app: typer.Typer) -> None:
    app.command()(pause)
    app.command()(resume)


def pause(as_json: AsJson = False) -> None:
    """Let a mirror stand still: the packet in hand is finished, and no other is applied until `resume`."""
    _set(True, as_json)


def resume(as_json: AsJson = False) -> None:
    """Let a mirror go on."""
    _set(False, as_json)


def _set(paused: bool, as_json: bool) -> None:
    from workers.replication.sync.adapters import Mirror

    with runtime(redis=False) as parts, parts.connection() as connection:
        mirror = Mirror(connection)
        mirror.prepare()
        changed = mirror.pause(paused)
    if as_json:
        put_json({"paused": paused, "changed": changed})
        return
    state = "paused" if paused else "not paused"
    say(f"Replication is {state}{'' if changed else ' already' if paused else ''}.")
