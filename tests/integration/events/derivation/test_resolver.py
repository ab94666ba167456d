from collections import Counter
from typing import Any

import psycopg
import pytest

from events.derivation.adapters import PostgresResolver
from events.derivation.core import Deriver
from events.derivation.entity_map import load
from schemas.capture import RowChange
from tests.integration.events.derivation.conftest import Database


class Counting(PostgresResolver):
    """Counts the statements that really go to the server."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection)
        self.statements: Counter[str] = Counter()

    def _rows(self, statement: Any, parameters: Any) -> list[Any]:
        self.statements[statement.as_string()] += 1
        return super()._rows(statement, parameters)


def test_what_does_not_exist_is_left_out(plain: psycopg.Connection[Any]) -> None:
    resolver = PostgresResolver(plain)
    (artist, mbid) = plain.execute("SELECT id, gid::text FROM artist ORDER BY id LIMIT 1").fetchone() or (0, "")
    (url, text) = plain.execute("SELECT id, url FROM url ORDER BY id LIMIT 1").fetchone() or (0, "")
    assert resolver.mbids("artist", [artist, 99_999_999]) == {artist: mbid}
    assert {row_id: found[1] for row_id, found in resolver.urls([url, 99_999_999]).items()} == {url: text}


def test_every_part_can_be_looked_up(plain: psycopg.Connection[Any]) -> None:
    resolver = PostgresResolver(plain)
    for table in load().via:
        assert resolver.owners(table, list(load().tables[table].owners), [99_999_999]) == {}
    track, medium, recording = plain.execute("SELECT id, medium, recording FROM track").fetchone() or (0, 0, 0)
    assert resolver.owners("musicbrainz.track", ["medium", "recording"], [track]) == {track: (medium, recording)}


def test_without_capture_nothing_deleted_is_found(plain: psycopg.Connection[Any]) -> None:
    assert PostgresResolver(plain).deleted({"musicbrainz.artist": [1]}) == {}


def test_a_deleted_row_is_found_as_it_was_last(edited: Database) -> None:
    for name in ("early", "late"):
        edited.insert("genre", id=5, gid="00000000-0000-4000-8000-000000000005", name=name)
        edited.run("DELETE FROM genre WHERE id = 5")
        edited.connection.commit()
    found = PostgresResolver(edited.connection).deleted({"musicbrainz.genre": [5, 6], "musicbrainz.area": [5]})
    assert found.keys() == {("musicbrainz.genre", 5)}
    assert found["musicbrainz.genre", 5]["name"] == "late"


def test_an_entity_that_a_later_chunk_deletes_is_named_in_an_earlier_one(edited: Database) -> None:
    edited.insert("genre", id=5, gid="00000000-0000-4000-8000-000000000005", name="Later deleted")
    edited.insert("genre_alias", genre=5, name="B", sort_name="B")
    edited.connection.commit()
    edited.changes()
    edited.run("UPDATE genre_alias SET name = 'C' WHERE genre = 5")
    edited.connection.commit()
    first = edited.changes()
    edited.run("DELETE FROM genre_alias WHERE genre = 5")
    edited.run("DELETE FROM genre WHERE id = 5")
    edited.connection.commit()
    deriver = Deriver("db")
    deriver.add(first)
    (event,) = deriver.drafts([first[0].xid], PostgresResolver(edited.connection))
    assert (event.name, event.subject) == ("entity.updated", "genre/00000000-0000-4000-8000-000000000005")


@pytest.mark.parametrize("rows", [10, 1_000])
def test_the_number_of_queries_does_not_grow_with_the_rows(plain: psycopg.Connection[Any], rows: int) -> None:
    artists = [row_id for (row_id,) in plain.execute("SELECT id FROM artist").fetchall()]
    tracks = plain.execute("SELECT medium, recording FROM track").fetchall()
    urls = [row_id for (row_id,) in plain.execute("SELECT id FROM url").fetchall()]
    time = "2024-01-01T00:00:00Z"
    changes: list[RowChange] = []
    for number in range(rows):
        medium, recording = tracks[number % len(tracks)]
        artist, url = artists[number % len(artists)], urls[number % len(urls)]
        for table, row in (
            ("musicbrainz.artist_alias", {"id": number, "artist": artist}),
            ("musicbrainz.track", {"id": number, "medium": medium, "recording": recording}),
            ("musicbrainz.l_artist_url", {"id": number, "entity0": artist, "entity1": url, "link": 1}),
        ):
            # A transaction for each row, all in one batch.
            changes.append(RowChange(len(changes), len(changes), table, "i", None, row, time))
    deriver = Deriver("db")
    deriver.add(changes)
    resolver = Counting(plain)
    drafts = deriver.drafts(range(len(changes)), resolver)
    assert len(drafts) == rows * 6
    # artist, recording, release; medium; the URLs with their MBIDs.
    assert len(resolver.statements) == 5
    assert set(resolver.statements.values()) == {1}
