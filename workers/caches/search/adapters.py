"""Names in the tables of MusicBrainz, looked up by the indexes that its schema has."""

from threading import BoundedSemaphore
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from events.errors import UnreachableError
from events.sql import queries
from schemas.values import ENTITY_TYPES

from ..adapters import Connect
from .core import Named, Names, has_words, spellings

# Whoever asks waits no longer than for both together.
SECONDS = 5
WORDS_SECONDS = 2
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
        self._sql: dict[str, bytes] = {each: search_query(each) for each in ENTITY_TYPES}
        self._by_words: dict[str, bytes] = {
            each: search_query(each, words=True) for each in ENTITY_TYPES if each not in _HITS
        }

    def named(self, entity_type: str, name: str, *, limit: int) -> Names:
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise UnreachableError("Too many search the database at once.")
        try:
            # One more than is told, to see that there are more.
            rows, complete = self._rows(entity_type, name, limit + 1)
        finally:
            self._turns.release()
        found = [
            Named(mbid, shown, comment, credit, "alias" if turn else "name")
            for mbid, shown, comment, credit, turn in rows[:limit]
        ]
        return Names(found, complete and len(rows) <= limit)

    def _rows(self, entity_type: str, name: str, limit: int) -> tuple[list[Any], bool]:
        spelt, all_of_them = spellings(name)
        asked = {"name": name, "spellings": spelt, "limit": limit}
        rows = self._run(self._sql[entity_type], asked, SECONDS)
        if entity_type not in self._by_words:
            return rows, True
        if all_of_them or len(rows) == limit:
            # Their aliases are looked up by words.
            return rows, has_words(name)
        try:
            return self._run(self._by_words[entity_type], asked, WORDS_SECONDS), True
        except psycopg.errors.QueryCanceled:
            # Too many have all these words.
            return rows, False

    def _run(self, query: bytes, asked: dict[str, object], seconds: int) -> list[Any]:
        with self._connect() as connection, connection.transaction():
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", (f"{seconds}s",))
            return cursor.execute(query, asked).fetchall()


def search_query(entity_type: str, *, words: bool = False) -> bytes:
    """`words`: also what has the words of a name that has too many spellings."""
    named = queries(__package__)
    parts = {
        "table": sql.Identifier("musicbrainz", entity_type),
        "aliases": sql.Identifier("musicbrainz", f"{entity_type}_alias"),
        "owner": sql.Identifier(entity_type),
    }
    is_url = entity_type == "url"
    hits = [_HITS.get(entity_type, "spelt"), *(["words"] if words else [])]
    shown = sql.SQL(named["shown"]).format(
        hits=sql.SQL("\n").join(sql.SQL(named[each].removesuffix(";")).format(**parts) for each in hits),
        name=sql.SQL("e.url" if is_url else "e.name"),
        comment=sql.SQL("''" if is_url else "e.comment"),
        credit=sql.SQL(named["credit"] if entity_type in _CREDITED else "NULL"),
        table=parts["table"],
    )
    return shown.as_bytes()
