"""`mbevents http`: outside services, as the processes ask them."""

from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import MbeventsError, NotFoundError, UnreachableError
from ops.cli.common import AsJson, runtime
from ops.cli.output import put, put_json

if TYPE_CHECKING:
    from workers.http.core import Outcome

app = typer.Typer(help="Outside services, as the processes ask them.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keeps `get` a command of its own as long as it is the only one."""


@app.command()
def get(
    url: Annotated[str, typer.Argument(help="What to ask for.")],
    guarded: Annotated[bool, typer.Option("--guarded", help="As a URL of a user: public and https only.")] = False,
    fresh: Annotated[
        float | None,
        typer.Option("--cache", min=0.001, help="Take an answer that is kept, or keep it for so many seconds."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a URL in its turn, and print what came of it."""
    from events.errors import UsageError
    from workers.http.answers import Caching
    from workers.http.core import Failure, Kind

    if guarded and fresh is not None:
        raise UsageError("Answers to a user's URLs are not kept: give --guarded or --cache.")
    with runtime(database=False) as parts:
        client = parts.guarded_http if guarded else parts.http
        outcome = client.get(url, caching=None if fresh is None else Caching(fresh=fresh))
    if isinstance(outcome, Failure):
        if as_json:
            put_json({"outcome": "failure", **_plain(outcome)})
        text = f"{outcome.url or 'It'} was not got ({outcome.kind}): {outcome.message}"
        if outcome.kind in {Kind.BAD_URL, Kind.UNIDENTIFIED, Kind.FORBIDDEN_ADDRESS}:
            raise UsageError(text)
        raise (MbeventsError if outcome.kind in {Kind.STATUS_4XX, Kind.API_ERROR} else UnreachableError)(text)
    if as_json:
        put_json({"outcome": "answer", **_plain(outcome)})
    elif outcome.found:
        put(outcome.body.decode(errors="replace"))
    if not outcome.found:
        raise NotFoundError(f"The server has nothing there ({outcome.status}).")


def _plain(outcome: "Outcome") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(outcome)
