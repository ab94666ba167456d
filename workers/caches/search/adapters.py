"""Names in the tables of MusicBrainz, looked up by the indexes that its schema has."""

from threading import BoundedSemaphore
from typing import Any

from psycopg import sql
from psycopg.rows import tuple_row

from events.errors import UnreachableError
from events.sql import queries
from schemas.values import ENTITY_TYPES

from ..adapters import Connect
from .core import Named, Names

# A name of one common word has a hundred thousand recordings to look at; who asks for it waits no longer than this.
SECONDS = 5
# So that whoever searches for common words leaves connections of the pool to others.
AT_ONCE = 2
# Nearly all take some milliseconds: a turn that does not come by then is held by a slow one.
TURN_SECONDS = 0.25
_HITS = {
    **dict.fromkeys(("artist", "label", "place", "series"), "unaccented"),
    **dict.fromkeys(("instrument", "genre"), "few"),
    "url": "url",
}
_CREDITED = frozenset({"recording", "release", "release_group"})


class PostgresNames:
    """Raises psycopg.Error, and UnreachableError when others search for too long."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._turns = BoundedSemaphore(AT_ONCE)
        self._sql: dict[str, bytes] = {entity_type: search_query(entity_type) for entity_type in ENTITY_TYPES}

    def named(self, entity_type: str, name: str, *, limit: int) -> Names:
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise UnreachableError("Too many search the database at once.")
        try:
            # One more than is told, to see that there are more.
            rows = self._rows(entity_type, name, limit + 1)
        finally:
            self._turns.release()
        found = [
            Named(mbid, shown, comment, credit, "alias" if turn else "name")
            for mbid, shown, comment, credit, turn in rows[:limit]
        ]
        return Names(found, len(rows) <= limit)

    def _rows(self, entity_type: str, name: str, limit: int) -> list[Any]:
        with self._connect() as connection, connection.transaction():
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", (f"{SECONDS}s",))
            return cursor.execute(self._sql[entity_type], {"name": name, "limit": limit}).fetchall()


def search_query(entity_type: str) -> bytes:
    named = queries(__package__)
    parts = {
        "table": sql.Identifier("musicbrainz", entity_type),
        "aliases": sql.Identifier("musicbrainz", f"{entity_type}_alias"),
        "owner": sql.Identifier(entity_type),
    }
    is_url = entity_type == "url"
    shown = sql.SQL(named["shown"]).format(
        hits=sql.SQL(named[_HITS.get(entity_type, "words")].removesuffix(";")).format(**parts),
        name=sql.SQL("e.url" if is_url else "e.name"),
        comment=sql.SQL("''" if is_url else "e.comment"),
        credit=sql.SQL(named["credit"] if entity_type in _CREDITED else "NULL"),
        table=parts["table"],
    )
    return shown.as_bytes()
