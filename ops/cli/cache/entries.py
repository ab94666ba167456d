"""`mbevents cache get` and `invalidate`."""

from typing import Annotated

import typer

from events.errors import NotFoundError
from ops.cli.common import AsJson, plural, runtime
from ops.cli.output import put, put_json, say

EntityType = Annotated[str, typer.Argument(help="Like artist or release_group.")]
Load = Annotated[bool, typer.Option("--load", help="On a miss read it from the database, and cache it.")]


def register(app: typer.Typer) -> None:
    for command in (get, invalidate):
        app.command()(command)


def get(
    entity_type: EntityType,
    mbid: Annotated[str, typer.Argument(help="The entity's MBID, also an old one.")],
    load: Load = False,
    as_json: AsJson = False,
) -> None:
    """Print what is cached of an entity; old MBIDs are followed."""
    from workers.caches.service import entity_key

    entity_key(entity_type, mbid)
    with runtime(database=load) as parts:
        cached = parts.entity_cache.get(entity_type, mbid)
        document = None if cached is None else cached.known
        if cached is None and load:
            document = parts.entity_cache.get_or_load(entity_type, mbid, parts.load_entity)
        elif cached is None:
            # A miss and a Redis that is away look the same to readers; here it matters.
            parts.check_entities()
    if not isinstance(document, bytes):
        where = "in the database" if cached is not None or load else "in the cache (--load reads it from the database)"
        raise NotFoundError(f"There is no {entity_type} {mbid} {where}.")
    if as_json:
        import json

        put_json(
            {"entity_type": entity_type, "mbid": mbid, "cached": cached is not None, "document": json.loads(document)}
        )
    else:
        put(document.decode())


def invalidate(
    entity_type: EntityType,
    mbids: Annotated[list[str] | None, typer.Argument(help="MBIDs to forget.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every entity of the type.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the entity cache forget entities, or all of a type."""
    from events.errors import UsageError
    from workers.caches.service import entity_key

    if bool(mbids) == everything:
        raise UsageError("Give MBIDs, or --all for every entity of the type.")
    keys = [entity_key(entity_type, mbid) for mbid in mbids or ()]
    with runtime(database=False) as parts:
        if everything:
            parts.entity_cache.invalidate_types([entity_type])
        else:
            parts.entity_cache.invalidate(keys)
    if as_json:
        put_json({"entity_type": entity_type, "invalidated": "all" if everything else len(keys)})
    else:
        say(f"Forgot {f'every {entity_type}' if everything else plural(len(keys), 'entry', 'entries')}.")
