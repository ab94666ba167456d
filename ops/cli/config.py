"""`mbevents config` and `mbevents version`."""

import typer

from ops.cli.common import AsJson
from ops.cli.output import put, put_json, put_table


def register(app: typer.Typer) -> None:
    app.command()(config)
    app.command()(version)


def config(as_json: AsJson = False) -> None:
    """Print the settings in force.

    Secrets are hidden; each with where it comes from.
    """
    from ops import settings

    shown = settings.load().shown()
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
