"""`mbevents stack`: the embedded servers by hand."""

from typing import TYPE_CHECKING

import typer

from ops.cli.common import AsJson, Yes, confirm
from ops.cli.output import put, put_json, put_table, say

if TYPE_CHECKING:
    from pathlib import Path

    from ops.stack.control import Status

app = typer.Typer(help="The embedded servers by hand.", no_args_is_help=True)


def _home() -> "Path":
    from ops import loading

    return loading.load().settings.mbevents_home


@app.command()
def start(as_json: AsJson = False) -> None:
    """Start both servers, to stay.

    With the sample database. They run until `stack stop`; killed, they come back with the next command that needs them.
    """
    import ops.stack
    from ops.stack import control

    home = _home()
    with ops.stack.start(home, progress=say) as servers:
        ops.stack.ensure_musicbrainz(servers, progress=say)
        servers.keep()
        urls = {"DATABASE_URL": servers.database_url(), "REDIS_SERVER": servers.redis_url().partition("?")[0]}
    if as_json:
        put_json(_as_json(control.status(home)) | urls)
    else:
        for name, url in urls.items():
            put(f"{name}={url}")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Print what runs, and where the data are."""
    from ops.stack import control

    found = _as_json(control.status(_home()))
    if as_json:
        put_json(found)
    else:
        put_table(("WHAT", "IS"), found.items())


@app.command()
def stop() -> None:
    """Stop servers that `stack start` left running."""
    from ops.stack import control

    say("Stopped." if control.stop(_home()) else "Nothing was running.")


@app.command()
def destroy(yes: Yes = False) -> None:
    """Stop the servers and remove all of their data."""
    from ops.stack import control

    home = _home()
    data = control.data_folder(home)
    if data is None and not home.exists():
        say(f"There is nothing in {home}.")
        return
    confirm(yes, f"This removes {home} with the embedded database in it.")
    control.destroy(home, progress=say)


def _as_json(found: "Status") -> dict[str, object]:
    return {
        "home": str(found.home),
        "data": None if found.data is None else str(found.data),
        "postgres_pid": found.postgres_pid,
        "redis_pid": found.redis_pid,
        "kept": found.kept,
        "in_use": found.in_use,
    }
