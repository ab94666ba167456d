"""`mbevents cache invalidate`."""

from collections.abc import Iterator
from typing import Annotated

import typer

from events.errors import UsageError
from ops.cli.common import AsJson, plural, runtime
from ops.cli.output import put_json, say


def register(app: typer.Typer) -> None:
    app.command()(invalidate)


def invalidate(
    entity_type: Annotated[str | None, typer.Argument(help="Like artist or release_group.")] = None,
    mbids: Annotated[list[str] | None, typer.Argument(help="MBIDs to forget.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every entity of the type.")] = False,
    search: Annotated[bool, typer.Option("--search", help="Every search and page.")] = False,
    statistics: Annotated[bool, typer.Option("--statistics", help="Have everything counted again.")] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="What depends on this, like artist:<MBID>; `cache why` shows tags."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the caches forget entities with what shows them, all of a type, searches, statistics, or what has a tag."""
    from ops.settings import RedisRole
    from workers.caches import tags
    from workers.caches.service import entity_key, known_type
    from workers.leased.core import is_tag

    chosen, given = mbids or [], tag or []
    if bool(chosen) == everything if entity_type is not None else everything or not (search or statistics or given):
        raise UsageError(
            "Give a type with MBIDs, or with --all for every entity of it; or --search, --statistics, --tag."
        )
    for each in given:
        if not is_tag(each):
            raise UsageError(f"{each!r:.60} is no tag; one looks like artist:95e9aba6-f85c-48a0-9ec9-395d4f0e3875.")
    name = known_type(entity_type.replace("-", "_")) if entity_type is not None else ""
    keys = [entity_key(name, mbid) for mbid in chosen]
    depend = [*given, *(key.name for key in keys), *(tags.all_of(name) if everything else ())]
    with runtime(database=False) as parts:
        if keys:
            parts.entity_cache.invalidate(keys)
        if depend:
            for role in (RedisRole.ENTITIES, RedisRole.SEARCH, RedisRole.STATISTICS):
                parts.leased(role).forget(tags=depend)
        if search:
            parts.leased(RedisRole.SEARCH).forget_all()
        if statistics:
            parts.statistics.forget()
            parts.statistics.ask()
    if as_json:
        what = {"invalidated": "all" if everything else len(keys), "search": search, "statistics": statistics}
        put_json({"entity_type": name or None, **what, "tags": given})
    else:
        entities = f"every {name}" if everything else plural(len(keys), "entry", "entries") if keys else None
        say(f"Forgot {', '.join(_told(entities, given, search=search, statistics=statistics))}.")


def _told(entities: str | None, tags: list[str], *, search: bool, statistics: bool) -> Iterator[str]:
    if entities is not None:
        yield entities
    if search:
        yield "every search"
    if statistics:
        yield "every number (they are counted again)"
    if tags:
        yield f"what has {' or '.join(tags)}"
