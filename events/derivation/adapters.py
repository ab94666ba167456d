"""Where MBIDs come from: the database, and what the capture kept of rows that are gone from it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from events.derivation.resolution import Owners
from events.sql import queries


class PostgresResolver:
    """Reads in the caller's transaction. Without dbmirror2's tables, as on many mirrors, nothing deleted is found."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._sql = queries("events.derivation")
        self._has_capture: bool | None = None

    def mbids(self, entity_type: str, ids: Collection[int]) -> Mapping[int, str]:
        statement = sql.SQL(self._sql["mbids"]).format(table=sql.Identifier("musicbrainz", entity_type))
        return dict(self._rows(statement, {"ids": list(ids)}))

    def owners(self, table: str, columns: Sequence[str], ids: Collection[int]) -> Mapping[int, Owners]:
        statement = sql.SQL(self._sql["owners"]).format(
            # A part's name, from the entity map, needs no quotes.
            table=sql.Identifier(*table.split(".")),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        )
        return {row[0]: row[1:] for row in self._rows(statement, {"ids": list(ids)})}

    def urls(self, ids: Collection[int]) -> Mapping[int, tuple[str, str]]:
        return {row[0]: row[1:] for row in self._rows(sql.SQL(self._sql["urls"]), {"ids": list(ids)})}

    def deleted(self, wanted: Mapping[str, Collection[int]]) -> Mapping[tuple[str, int], Mapping[str, Any]]:
        if not self._captured():
            return {}
        pairs = [(table, row_id) for table, ids in wanted.items() for row_id in ids]
        parameters = {"tables": [table for table, _ in pairs], "ids": [row_id for _, row_id in pairs]}
        return {(row[0], row[1]): row[2] for row in self._rows(sql.SQL(self._sql["deleted"]), parameters)}

    def _captured(self) -> bool:
        if self._has_capture is None:
            self._has_capture = bool(self._rows(sql.SQL(self._sql["has_capture"]), {})[0][0])
        return self._has_capture

    def _rows(self, statement: sql.SQL | sql.Composed, parameters: Mapping[str, Any]) -> list[Any]:
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(statement, parameters).fetchall()
