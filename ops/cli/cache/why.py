"""`mbevents cache why`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import UnreachableError
from ops.cli.common import AsJson, runtime
from ops.cli.output import put, put_json

if TYPE_CHECKING:
    from ops.caches.why import Compared, Explanation, Step


def register(app: typer.Typer) -> None:
    app.command()(why)


def why(
    entity_type: Annotated[str, typer.Argument(help="Like artist or release_group.")],
    mbid: Annotated[str, typer.Argument(help="The entity's MBID, also an old one.")],
    compare: Annotated[bool, typer.Option("--compare", help="Compare what is cached with the database.")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain what the cache has of an entity: whether it counts, how old it is, what it depends on.

    Looks only. Exits with 1 when what readers get is not what the database has, with 6 when Redis does not answer.
    """
    from ops.caches.why import explain
    from workers.caches.service import entity_key

    key = entity_key(entity_type.replace("-", "_"), mbid)
    with runtime() as parts:
        found = explain(parts, key, compare=compare)
    if as_json:
        put_json(found.to_dict())
    else:
        width = max(len(name) for name, _ in _lines(found))
        for name, told in _lines(found):
            put(f"{name.ljust(width)}  {told}".rstrip())
    if any(not each.equal for each in found.compared or ()):
        raise typer.Exit(1)
    if found.server.problem is not None:
        raise typer.Exit(UnreachableError.exit_code)


def _lines(found: "Explanation") -> Iterator[tuple[str, str]]:
    server = found.server
    if server.problem is None:
        yield "redis", f"{server.address} answers in {1000 * (server.seconds or 0):.1f} ms"
    else:
        yield "redis", f"{server.address} does not answer ({server.problem}): readers get it from the database"
    compared = {each.mbid: each for each in found.compared or ()}
    for step in found.steps:
        yield from _of_step(step)
        if step.key.mbid in compared:
            yield "compared", _told(compared[step.key.mbid])
        elif found.compared is not None:
            yield "compared", "not cached: the next reader gets what the database has"
    if found.problem is not None:
        yield "database", f"does not answer as it should: {found.problem}"
    for event in found.events or ():
        yield "event", f"{event.sequence}  {event.time}  {event.name}"
    if found.events == ():
        yield "event", "the log has none about it"


def _of_step(step: "Step") -> Iterator[tuple[str, str]]:
    from workers.caches.keys import Redirect

    yield "entity", f"{step.key.entity_type} {step.key.mbid} ({step.name})"
    found = step.inspected
    if found is None:
        return
    entry = found.entry
    if entry is None:
        yield "cached", "no: the next reader loads it"
    else:
        known = step.known
        what = {bytes: f"{len(entry.body or b''):,} bytes", Redirect: "a redirect"}.get(type(known), "no such entity")
        yield "cached", f"yes: {what}" if step.void is None else f"void, although {what} are there: {step.void}"
        yield "stored", f"{entry.age:.1f} s ago; loading took {entry.cost:.3f} s"
        yield "fresh", f"for {entry.left:.1f} s more" if entry.left > 0 else f"no longer, for {-entry.left:.1f} s"
        if isinstance(known, Redirect):
            yield "leads to", known.mbid
        yield "as of", f"{found.as_of} of the store's clock, which is at {found.number} (epoch {found.epoch})"
        for tag in found.tags:
            number = "gone" if tag.number is None else f"{tag.number}"
            yield "tag", f"{tag.name}: {number}"
    lease = found.lease_left
    yield "lease", "nobody loads it" if lease is None else f"somebody loads it, and may for {lease:.1f} s more"


def _told(compared: "Compared") -> str:
    if compared.equal:
        return f"equal: the database has {compared.database}"
    members = f", and differs in: {', '.join(compared.differs)}" if compared.differs else ""
    return (
        f"DIFFERENT: the database has {compared.database}{members}. Is its event under way (`mbevents doctor`)? "
        "`mbevents cache invalidate` forgets it."
    )
