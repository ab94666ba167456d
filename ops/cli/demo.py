"""`mbevents demo`."""

import typer

from ops.cli.common import AsJson


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(as_json: AsJson = False) -> None:
    """Watch real edits travel from COMMIT to their effects.

    In a temporary home of its own, with everything that it needs; it touches nothing that is configured or runs.
    """
    from ops.demo.run import main

    raise typer.Exit(main(as_json=as_json))
