"""`/entity/…`: what the database has of entities, as JSON, read through the caches.

Plain functions, run in threads of their own, as loads wait for servers.
"""

from collections.abc import Sequence
from typing import Protocol

import orjson
from fastapi import FastAPI, Request, Response

from events.errors import NotFoundError, UsageError
from ops.web.reading import HEADERS, Readers, answer
from schemas.values import ENTITY_TYPES
from workers.caches.keys import Cached, Known, Redirect
from workers.caches.service import Load, entity_key

# Of one request; a client that wants more asks again.
MOST = 100


class Cache(Protocol):
    def known(self, entity_type: str, mbid: str, load: Load) -> Known: ...

    def get_or_load(self, entity_type: str, mbid: str, load: Load) -> bytes | None: ...

    def get_many(self, entity_type: str, mbids: Sequence[str]) -> list[Cached | None]: ...


class Searches(Protocol):
    def named(self, entity_type: str, name: str) -> bytes: ...


def register(app: FastAPI, cache: Cache, load: Load, searches: Searches) -> None:
    """Add the addresses. Types are written as the web does (release-group) or as the database (release_group)."""
    readers = Readers()

    @readers.answered
    def entity(request: Request, entity_type: str, mbid: str) -> Response:
        key = entity_key(_type(entity_type), mbid)
        known = cache.known(*key, load)
        if isinstance(known, Redirect):
            # 301, as it was merged for good, and yet to be asked about: the one that it leads to may be merged too.
            where = f"/entity/{entity_type}/{known.mbid}"
            return Response(status_code=301, headers={**HEADERS, "Location": where})
        if known is None:
            raise NotFoundError(f"There is no {_written(key.entity_type)} {key.mbid}.")
        return answer(request, known)

    @readers.answered
    def entities(request: Request, entity_type: str) -> Response:
        found = _type(entity_type)
        mbids, names = request.query_params.getlist("mbid"), request.query_params.getlist("name")
        if len(names) == 1 and not mbids:
            return answer(request, searches.named(found, names[0]))
        if names or not 0 < len(mbids) <= MOST:
            raise UsageError(f"Ask for mbid=…, up to {MOST} times, or for one name=….")
        return answer(request, _many(found, mbids))

    def _many(entity_type: str, mbids: Sequence[str]) -> bytes:
        asked = list(dict.fromkeys(entity_key(entity_type, mbid).mbid for mbid in mbids))
        documents = [
            cache.get_or_load(entity_type, mbid, load) if cached is None else cached.known
            for mbid, cached in zip(asked, cache.get_many(entity_type, asked), strict=True)
        ]
        listed = [
            {"mbid": mbid, "entity": orjson.Fragment(document) if isinstance(document, bytes) else None}
            for mbid, document in zip(asked, documents, strict=True)
        ]
        return orjson.dumps({"entities": listed})

    app.add_api_route("/entity/{entity_type}", entities, methods=["GET", "HEAD"])
    # With slashes, so that what is no MBID is told to be none.
    app.add_api_route("/entity/{entity_type}/{mbid:path}", entity, methods=["GET", "HEAD"])


def _type(written: str) -> str:
    entity_type = written.replace("-", "_")
    if entity_type not in ENTITY_TYPES:
        raise NotFoundError(f"{written!r:.60} is no entity type; they are: {', '.join(map(_written, ENTITY_TYPES))}.")
    return entity_type


def _written(entity_type: str) -> str:
    return entity_type.replace("_", "-")
