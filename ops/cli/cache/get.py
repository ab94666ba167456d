"""`mbevents cache get`."""

from typing import Annotated

import typer

from events.errors import NotFoundError
from ops.cli.common import AsJson, runtime
from ops.cli.output import put, put_json

EntityType = Annotated[str, typer.Argument(help="Like artist or release_group.")]
Load = Annotated[bool, typer.Option("--load", help="On a miss read it from the database, and cache it.")]


def register(app: typer.Typer) -> None:
    app.command()(get)


def get(
    entity_type: EntityType,
    mbid: Annotated[str, typer.Argument(help="The entity's MBID, also an old one.")],
    load: Load = False,
    as_json: AsJson = False,
) -> None:
    """Print what is cached of an entity; old MBIDs are followed."""
    from workers.caches.service import entity_key

    entity_type, mbid = entity_key(entity_type.replace("-", "_"), mbid)
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
