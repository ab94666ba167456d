"""`mbevents events`: the log, read, followed and told again."""

from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import NotFoundError, UsageError
from ops.cli.common import AsJson, Yes, comparable, confirm, event_names, moment, optional_moment, plural, runtime
from ops.cli.output import put_json, put_line_json, put_now, put_table, say

if TYPE_CHECKING:
    from schemas.envelope import Event

app = typer.Typer(help="The events: read, followed, told again.", no_args_is_help=True)

Types = Annotated[list[str] | None, typer.Option("--type", help="Only this type, like edit.opened; may be repeated.")]
Since = Annotated[str | None, typer.Option(help="Only what was logged since: 2h, 7d, 2026-05-01T12:00.")]
Subject = Annotated[
    str | None, typer.Option(help="Only about this, like artist/<mbid> or edit/123.", callback=comparable)
]
Name = Annotated[str, typer.Argument(help="An event's id or position.", callback=comparable)]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")]


@app.command("list")
def list_events(
    *,
    types: Types = None,
    since: Since = None,
    subject: Subject = None,
    after: Annotated[int | None, typer.Option(min=0, help="Those behind this position, oldest first.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Print the newest events, newest first."""
    from events.log import service as log

    names, begin = event_names(types), optional_moment(since)
    if after is not None and subject is not None:
        raise UsageError("--after reads the log in order, and --subject looks up one subject: give one of them.")
    with runtime(redis=False) as parts, parts.connection() as connection:
        if after is not None:
            found = log.read(connection, after=after, limit=limit, types=names, since=begin)
        else:
            found = log.latest(connection, limit=limit, types=names, since=begin, subject=subject)
    if as_json:
        for event in found:
            put_line_json(event.to_dict())
    else:
        put_table(("POSITION", "TIME", "TYPE", "SUBJECT", "ID"), (_row(event) for event in found))
        if not found:
            say("There are no such events.")


@app.command()
def show(event: Name, as_json: AsJson = False) -> None:
    """Print one event with its data."""
    from events.log import service as log

    with runtime(redis=False) as parts, parts.connection() as connection:
        found = log.get(connection, event)
    if found is None:
        raise NotFoundError(
            f"There is no event {event!r:.80} in the log: it never was, or is older than EVENT_RETENTION_DAYS."
        )
    if as_json:
        put_json(found.to_dict())
    else:
        put_table(
            ("WHAT", "IS"),
            ((name, _flat(value)) for name, value in found.to_dict().items()),
        )


@app.command()
def tail(
    *,
    types: Types = None,
    after: Annotated[int | None, typer.Option(min=0, help="First those behind this position.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print events as they are published.

    Until Ctrl-C; misses none in the log while a server is away. Go on later with --after and the highest sequence.
    """
    from events import follow

    names = event_names(types)
    with runtime(quiet_level="ERROR") as parts:
        # Asked directly, a server that does not answer says why; a pool waits for it.
        with parts.connection():
            namespace = parts.settings.redis_namespace
        found = follow(
            parts.connect, parts.channels, namespace=namespace, after=after, types=names, unlogged=True, told=say
        )
        for event in found:
            if as_json:
                put_line_json(event.to_dict())
            else:
                put_now("  ".join(str(cell) for cell in _row(event)))


@app.command()
def replay(
    *,
    types: Types = None,
    since: Since = None,
    after: Annotated[int | None, typer.Option(min=0, help="Those behind this position.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Publish events of the log again.

    They have the same ids; the work that they cause is done again.
    """
    from ops.replay import Replay

    names = event_names(types)
    if since is None and after is None:
        raise UsageError("Say from where on: --since 2h, or --after a position.")
    begin = None if since is None else moment(since)
    with runtime() as parts:
        again = Replay(parts.connect, parts.publisher, types=names, since=begin, after=after or 0)
        preview = again.preview()
        if dry_run:
            if as_json:
                put_json(preview)
            else:
                put_table(("TYPE", "EVENTS"), preview.events.items())
                put_table(("ACTOR", "EVENTS"), preview.work.items())
            return
        if preview.total == 0:
            raise NotFoundError("There are no such events in the log: nothing is told again.")
        confirm(yes, f"This publishes {plural(preview.total, 'event')} again and has their work done again.")
        done = again.run(progress=say)
    if as_json:
        put_json({"events": done.events, "tasks": done.tasks})
    else:
        say(f"Published {plural(done.events, 'event')} again, with {plural(done.tasks, 'task')}.")


def _row(event: "Event") -> tuple[object, ...]:
    return (event.sequence, event.time, event.name, event.subject, event.id)


def _flat(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
