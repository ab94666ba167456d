"""Redis and Postgres behind the caches."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.resources import files
from typing import Any, cast

import psycopg
import redis
from psycopg import sql
from psycopg.rows import tuple_row

from events.channels import event_channel
from events.sql import queries
from schemas.values import ENTITY_TYPES
from workers.leased.adapters import CHUNK, chunks, told

from .core import Found, Reach, TheirEntity
from .keys import EntityKey, Known, Redirect
from .service import INVALIDATED, Reached

PACKAGE = "workers.caches"
# How long MusicBrainz Server heeds its flag is ten minutes; then the flag may go.
FLAG_SECONDS = 601

_WITHOUT_REDIRECTS = frozenset({"genre"})
_WITH_MORE = frozenset({"recording", "release", "release_group"})
_DEPENDANTS: Mapping[Reach, Sequence[tuple[str, str]]] = {
    Reach.CREDITED: (
        ("recording", "credited_recordings"),
        ("release_group", "credited_release_groups"),
        ("release", "credited_releases"),
        ("release", "releases_with_credited_tracks"),
        ("release", "alternative_releases"),
    ),
    Reach.GROUP: (("release_group", "release_groups_of"),),
    Reach.GROUPED: (("release", "releases_of"),),
    Reach.RECORDED: (("recording", "recordings_on"),),
}

Connect = Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]
"""An autocommitting connection for the length of a block: each query sees what is committed when it starts."""


class RedisMusicBrainz:
    """MusicBrainz Server's own cache and store, invalidated in its way; its values are Perl's and never written."""

    def __init__(self, *, store: "redis.Redis", cache: "redis.Redis", namespace: str = "MB") -> None:
        self._store = store
        self._cache = cache
        self._namespace = namespace

    def invalidate(self, entities: Collection[TheirEntity]) -> None:
        # First the flags: whoever loads the entity now, with the old row in hand, must find the flag and not store it.
        flags = [self._key(each, f"recently_invalidated:{each.id}") for each in entities if each.id is not None]
        names = [self._key(each, name) for each in entities for name in (each.id, each.mbid) if name is not None]
        with told():
            for chunk in chunks(flags):
                with self._store.pipeline(transaction=False) as pipe:
                    for flag in chunk:
                        pipe.set(flag, 1, ex=FLAG_SECONDS)
                    pipe.execute()
            _delete(self._cache, names)

    def _key(self, entity: TheirEntity, name: str | int) -> str:
        return f"{self._namespace}:{entity.entity_type}:{name}"


class RedisAnnouncements:
    """The channel `MB:events:cache.invalidated`."""

    def __init__(self, client: "redis.Redis", *, namespace: str = "MB") -> None:
        self._channel = event_channel(namespace, INVALIDATED)
        self._publish = client.register_script(files(PACKAGE).joinpath("publish.lua").read_bytes())

    def publish(self, events: Sequence[bytes]) -> None:
        with told():
            for chunk in chunks(events):
                self._publish(args=[self._channel, *chunk])


class PostgresDependants:
    """Dependants from the tables of MusicBrainz; all queries of a call go in one round trip."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sql = queries(PACKAGE)

    def find(self, reach: Mapping[Reach, Collection[int]], *, limit: int) -> Reached:
        found: list[Found] = []
        overflowed: set[str] = set()
        asked = []
        with self._connect() as connection, connection.pipeline():
            for way, ids in reach.items():
                for entity_type, name in _DEPENDANTS[way]:
                    cursor = connection.cursor(row_factory=tuple_row)
                    asked.append((way, entity_type, cursor))
                    # One more than may be, to see that there are more.
                    cursor.execute(self._sql[name], {"ids": list(ids), "limit": limit + 1})
            for way, entity_type, cursor in asked:
                rows = cursor.fetchall()
                if len(rows) > limit:
                    overflowed.add(entity_type)
                else:
                    found += (Found(way, origin, EntityKey(entity_type, mbid)) for mbid, origin in rows)
        return Reached(found, overflowed)


class PostgresEntities:
    """Reads entities from the tables of MusicBrainz as JSON documents; `load` is what `get_or_load` takes."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sql: dict[str, bytes] = {entity_type: _document_query(entity_type) for entity_type in ENTITY_TYPES}

    def load(self, entity_type: str, mbid: str) -> Known:
        with self._connect() as connection, connection.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(self._sql[entity_type], {"mbid": mbid}).fetchall()
        for document, _ in rows:
            if document is not None:
                return cast(str, document).encode()
        return Redirect(rows[0][1]) if rows else None


def _document_query(entity_type: str) -> bytes:
    named = queries(PACKAGE)
    parts = {
        "table": sql.Identifier("musicbrainz", entity_type),
        "redirects": sql.Identifier("musicbrainz", f"{entity_type}_gid_redirect"),
    }
    credit = sql.SQL(named["credit"])
    document = sql.SQL(_clause(named[entity_type if entity_type in _WITH_MORE else "plain"]))
    query: sql.Composable = document.format(credit=credit, **parts)
    if entity_type not in _WITHOUT_REDIRECTS:
        query = sql.SQL("{} UNION ALL {}").format(query, sql.SQL(_clause(named["redirect"])).format(**parts))
    return query.as_bytes()


def _clause(query: Any) -> Any:
    return query.removesuffix(";")


def _delete(client: "redis.Redis", names: Sequence[str]) -> None:
    if 0 < len(names) <= CHUNK:
        client.delete(*names)
    elif names:
        with client.pipeline(transaction=False) as pipe:
            for chunk in chunks(names):
                pipe.delete(*chunk)
            pipe.execute()
