"""`mbevents doctor`."""

import typer

from ops.cli.common import AsJson, plural
from ops.cli.output import mark, put, put_json, say


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Find faults, and how to mend them.

    Looks at everything that has to work. Exit code 1 if there is a fault.
    """
    from ops.cli.common import runtime
    from ops.doctor import examine, healthy

    with runtime() as parts:
        if parts.servers is not None and parts.servers.started:
            # Else who asks why nothing works would be told that the servers run.
            say(f"{' and '.join(parts.servers.started)} did not run in {parts.servers.home}: started to be looked at.")
        findings = examine(parts)
    if as_json:
        put_json({"ok": healthy(findings), "findings": findings})
    else:
        for each in findings:
            put(f"{mark(each.ok)}  {each.check}: {each.detail}")
            if each.fix is not None:
                put(f"       fix: {each.fix}")
        faults = sum(each.ok is False for each in findings)
        say(f"{plural(faults, 'fault')}." if faults else "All is well.")
    if not healthy(findings):
        raise typer.Exit(1)
