"""`mbevents jobs`: the dead letters."""

from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import NotFoundError, PartlyDoneError, UsageError
from ops.cli.common import AsJson, Yes, comparable, confirm, optional_moment, plural, runtime
from ops.cli.output import put, put_json, put_table, say

if TYPE_CHECKING:
    from events.queues.letters import DeadLetter, Filter

app = typer.Typer(help="Work that failed for good: dead letters.", no_args_is_help=True)

MAX_ID = 2**63 - 1
Queue = Annotated[str | None, typer.Option(help="Only of this queue.", callback=comparable)]
Actor = Annotated[str | None, typer.Option(help="Only of this actor.", callback=comparable)]
Before = Annotated[str | None, typer.Option(help="Only what died before: 2h, 7d, 2026-05-01T12:00.")]
After = Annotated[str | None, typer.Option(help="Only what died after.")]
Below = Annotated[int | None, typer.Option(help="Those with a smaller id: the next page.", min=0, max=MAX_ID)]
Ids = Annotated[list[int] | None, typer.Argument(help="Dead letters by id.", min=0, max=MAX_ID)]
Id = Annotated[int, typer.Argument(help="A dead letter's id.", min=0, max=MAX_ID)]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many it would be.")]
ERROR_WIDTH = 100


@app.command("list")
def list_jobs(
    *,
    queue: Queue = None,
    actor: Actor = None,
    before: Before = None,
    after: After = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    below: Below = None,
    as_json: AsJson = False,
) -> None:
    """Print dead letters, newest first."""
    which = _filter(queue, actor, before, after)
    with runtime(redis=False) as parts:
        letters = parts.dead_letters.list(which, limit=limit, below=below)
        total = parts.dead_letters.count(which)
    if as_json:
        put_json({"total": total, "dead_letters": [_as_json(each, full=False) for each in letters]})
        return
    put_table(
        ("ID", "DIED", "QUEUE", "ACTOR", "ATTEMPTS", "ERROR"),
        ((each.id, each.died_at, each.queue, each.actor, each.attempts, _first(each.error)) for each in letters),
    )
    say(f"{len(letters)} of {plural(total, 'dead letter')}.")


@app.command()
def show(job: Id, as_json: AsJson = False) -> None:
    """Print one with its whole error and its message."""
    with runtime(redis=False) as parts:
        letter = parts.dead_letters.show(job)
    if as_json:
        put_json(_as_json(letter, full=True))
        return
    fields = _as_json(letter, full=True)
    error, message = fields.pop("error"), fields.pop("message")
    put_table(("WHAT", "IS"), fields.items())
    put(f"\n{error}\n\n{message}")


@app.command()
def retry(
    *,
    ids: Ids = None,
    queue: Queue = None,
    actor: Actor = None,
    before: Before = None,
    after: After = None,
    everything: All = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue dead letters again.

    Those named, all that match, or --all.
    """
    which = _chosen(ids=ids, queue=queue, actor=actor, before=before, after=after, everything=everything)
    with runtime(redis=not dry_run) as parts:
        letters = parts.dead_letters
        number = letters.count_retriable(which) if dry_run else letters.retry(which)
        if number == 0 and ids and not dry_run:
            if letters.count(which):
                raise UsageError("No worker can read what these letters hold: they can only be discarded.")
            raise NotFoundError("There are no such dead letters: they were retried or discarded, or never were.")
    _tell("retried", number, dry_run, as_json)
    _tell_missing(ids, number, dry_run)


@app.command()
def discard(
    *,
    ids: Ids = None,
    queue: Queue = None,
    actor: Actor = None,
    before: Before = None,
    after: After = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Throw dead letters away, and the work that they stand for."""
    which = _chosen(ids=ids, queue=queue, actor=actor, before=before, after=after, everything=everything)
    with runtime(redis=False) as parts:
        number = parts.dead_letters.count(which)
        if number == 0 and ids and not dry_run:
            raise NotFoundError("There are no such dead letters: they were retried or discarded, or never were.")
        if number and not dry_run:
            confirm(yes, f"This throws away {plural(number, 'dead letter')} and the work that they stand for.")
            number = parts.dead_letters.discard(which)
    _tell("discarded", number, dry_run, as_json)
    _tell_missing(ids, number, dry_run)


def _chosen(
    *,
    ids: list[int] | None,
    queue: str | None,
    actor: str | None,
    before: str | None,
    after: str | None,
    everything: bool,
) -> "Filter":
    narrowed = any(each is not None for each in (queue, actor, before, after)) or bool(ids)
    if narrowed == everything:
        raise UsageError(
            "--all goes with nothing else." if everything else "Say which: ids, --queue, --actor, --before, or --all."
        )
    return _filter(queue, actor, before, after, ids)


def _filter(
    queue: str | None, actor: str | None, before: str | None, after: str | None, ids: list[int] | None = None
) -> "Filter":
    from events.queues.letters import Filter

    return Filter(
        queue=queue,
        actor=actor,
        died_before=optional_moment(before),
        died_after=optional_moment(after),
        ids=ids or None,
    )


def _tell(what: str, number: int, dry_run: bool, as_json: bool) -> None:
    if as_json:
        put_json({what: 0 if dry_run else number, "matching": number})
    elif dry_run:
        say(f"{plural(number, 'dead letter')} would be {what}.")
    else:
        say(f"{plural(number, 'dead letter')} {what}.")


def _tell_missing(ids: list[int] | None, number: int, dry_run: bool) -> None:
    """Raises PartlyDoneError when some of what was named was passed over."""
    missing = len(set(ids or ())) - number
    if missing > 0 and not dry_run:
        raise PartlyDoneError(
            f"{plural(missing, 'dead letter')} of those named passed over: retried or discarded already, "
            "not what the options ask for, or no message that could be retried (`mbevents jobs show`)."
        )


def _first(error: str) -> str:
    line = error.partition("\n")[0]
    return line if len(line) <= ERROR_WIDTH else f"{line[: ERROR_WIDTH - 1]}…"


def _as_json(letter: "DeadLetter", *, full: bool) -> dict[str, object]:
    fields: dict[str, object] = {
        "id": letter.id,
        "queue": letter.queue,
        "actor": letter.actor,
        "task_id": letter.task_id,
        "message_id": letter.message_id,
        "attempts": letter.attempts,
        "redeliveries": letter.redeliveries,
        "died_at": letter.died_at,
        "error": letter.error,
    }
    if full:
        fields["message"] = letter.message if letter.message is not None else letter.raw
    return fields
