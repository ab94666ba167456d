"""`mbevents replication token`: who may read the feed."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.common import AsJson, plural, runtime
from ops.cli.output import put, put_json, put_table, say

if TYPE_CHECKING:
    from ops.settings import Settings

tokens = typer.Typer(help="Tokens of the feed.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Who has it: it names the token here and in the metrics.")]


def register(app: typer.Typer) -> None:
    app.add_typer(tokens, name="token")


@tokens.command()
def create(name: Name, as_json: AsJson = False) -> None:
    """Make a token and print it, which can be done only now."""
    with runtime(redis=False) as parts:
        token = parts.feed_tokens.create(name)
        _tell_of(parts.settings)
    if as_json:
        put_json({"name": name, "token": token})
        return
    put(token)
    say("It is not shown again: only a hash of it is kept.")


@tokens.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """Print the names of all tokens."""
    with runtime(redis=False) as parts:
        found = parts.feed_tokens.list()
        _tell_of(parts.settings)
    if as_json:
        put_json({"tokens": [each._asdict() for each in found]})
        return
    put_table(("NAME", "CREATED"), found)
    say(f"{plural(len(found), 'token')}.")


@tokens.command()
def revoke(name: Name, as_json: AsJson = False) -> None:
    """Make a token invalid; running feeds refuse it within two seconds."""
    with runtime(redis=False) as parts:
        parts.feed_tokens.revoke(name)
    if as_json:
        put_json({"revoked": name})
        return
    say(f"The token {name} is revoked.")


def _tell_of(settings: "Settings") -> None:
    if settings.replication_type != "RT_MASTER":
        say(
            f"REPLICATION_TYPE is {settings.replication_type}: these tokens open the feed of this database's "
            "`mbevents web`, and packets come from a master. A mirror reads with REPLICATION_ACCESS_TOKEN, which its "
            "master gives out."
        )
