"""`mbevents config` and `mbevents version`."""

from typing import Annotated

import typer

from ops.cli.common import AsJson
from ops.cli.output import put, put_json, put_table


def register(app: typer.Typer) -> None:
    app.command()(config)
    app.command()(version)
    app.callback()(options)


def config(as_json: AsJson = False) -> None:
    """Print the settings in force.

    Secrets are hidden; each with where it comes from.
    """
    from ops import loading

    shown = loading.load().shown()
    if as_json:
        put_json({each.name: {"value": each.value, "from": each.origin} for each in shown})
    else:
        put_table(("NAME", "VALUE", "FROM"), ((each.name, each.value, each.origin) for each in shown))


def version(as_json: AsJson = False) -> None:
    """Print the release."""
    from ops.version import version as release

    if as_json:
        put_json({"version": release()})
    else:
        put(release())


def _put_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


def options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the release and end.", is_eager=True, callback=_put_version)
    ] = False,
) -> None:
    """What goes before a command."""
