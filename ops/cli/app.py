"""All commands together, and what happens to their errors."""

import os
import sys

import typer

from events.errors import MbeventsError
from ops.cli import (
    bridge,
    cache,
    config,
    database,
    demo,
    doctor,
    events,
    http,
    jobs,
    replication,
    scheduler,
    sessions,
    stack,
    up,
    web,
    worker,
)
from ops.cli.output import say

BUG = 1

app = typer.Typer(
    name="mbevents",
    help="The event backbone of a MusicBrainz database.",
    no_args_is_help=True,
    # Plain help and errors: they are as readable, and come without the time that rich takes to load.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (demo, up, bridge, worker, scheduler, web, doctor, config):
    group.register(app)
for name, group_app in (
    ("db", database.app),
    ("events", events.app),
    ("jobs", jobs.app),
    ("cache", cache.app),
    ("http", http.app),
    ("replication", replication.app),
    ("sessions", sessions.app),
    ("stack", stack.app),
):
    app.add_typer(group_app, name=name)


def run() -> None:
    """Run the command of `sys.argv` and exit with its code: see `events.errors` for what the codes mean."""
    try:
        app(prog_name="mbevents")
    except MbeventsError as error:
        say(f"mbevents: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        _told_as_bug(error)
        sys.exit(BUG)


def _told_as_bug(error: Exception) -> None:
    from ops.web.health import reason_of

    if os.environ.get("LOG_LEVEL") == "DEBUG":
        raise error
    _report(error)
    say(
        f"mbevents: this should not have happened ({reason_of(error)}). "
        "Run it again with LOG_LEVEL=DEBUG to see where, and report it with what it printed."
    )


def _report(error: Exception) -> None:
    if "sentry_sdk" in sys.modules:
        import sentry_sdk

        sentry_sdk.capture_exception(error)
        sentry_sdk.flush(2.0)
