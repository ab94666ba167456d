"""Documents from the real tables."""

from typing import Any

import orjson

from schemas.values import ENTITY_TYPES
from tests.unit.workers.caches.making import mbid
from workers.caches.adapters import PostgresEntities
from workers.caches.keys import Redirect

from .conftest import Database

TRENTEMOLLER = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"
POLAR_MIX = "89b1b3ca-07cd-4f67-b9a7-3a3ba86d7149"


def document(musicbrainz: Database, entity_type: str, gid: str) -> dict[str, Any]:
    found = PostgresEntities(musicbrainz.connect).load(entity_type, gid)
    assert isinstance(found, bytes)
    read = orjson.loads(found)
    assert isinstance(read, dict)
    return read


def test_an_entity_is_its_row(musicbrainz: Database) -> None:
    found = document(musicbrainz, "artist", TRENTEMOLLER)
    assert (found["id"], found["gid"], found["name"]) == (108703, TRENTEMOLLER, "Trentemøller")


def test_every_entity_type_is_read_in_one_query(musicbrainz: Database) -> None:
    entities = PostgresEntities(musicbrainz.connect)
    musicbrainz.statements.clear()
    assert [entities.load(entity_type, mbid()) for entity_type in ENTITY_TYPES] == [None] * 13
    assert len(musicbrainz.statements) == 13


def test_a_release_shows_its_credit_its_group_its_dates_and_its_tracks(musicbrainz: Database) -> None:
    found = document(musicbrainz, "release", POLAR_MIX)
    group = musicbrainz.value(
        "SELECT g.gid::text FROM release_group g JOIN release r ON r.release_group = g.id WHERE r.gid = %s", POLAR_MIX
    )
    assert found["release_group"] == group
    assert found["artist_credit"] == {
        "name": "Trentemøller",
        "names": [
            {
                "name": "Trentemøller",
                "join_phrase": "",
                "artist": {
                    "mbid": TRENTEMOLLER,
                    "name": "Trentemøller",
                    "sort_name": "Trentemøller",
                    "comment": "",
                },
            }
        ],
    }
    media = found["media"]
    assert isinstance(media, list)
    assert media[0]["tracks"][1]["artist_credit"] == "Khan"
    assert isinstance(found["events"], list)


def test_a_recording_shows_where_it_appears(musicbrainz: Database) -> None:
    gid = musicbrainz.value("SELECT gid::text FROM recording WHERE name = %s", "Small Piano Piece")
    (appearance,) = document(musicbrainz, "recording", gid)["appears_on"]
    assert appearance["release"] == POLAR_MIX
    assert appearance["medium"] == {"position": 1, "format": 1, "name": ""}


def test_a_release_group_shows_when_it_was_first_released(musicbrainz: Database) -> None:
    gid = musicbrainz.value("SELECT gid::text FROM release_group LIMIT 1")
    found = document(musicbrainz, "release_group", gid)["first_release_date"]
    assert found.keys() == {"year", "month", "day"}


def test_an_old_mbid_leads_to_the_one_that_it_was_merged_into(musicbrainz: Database) -> None:
    old = mbid()
    musicbrainz.connection.execute("INSERT INTO artist_gid_redirect (gid, new_id) VALUES (%s, 108703)", (old,))
    assert PostgresEntities(musicbrainz.connect).load("artist", old) == Redirect(TRENTEMOLLER)
    assert PostgresEntities(musicbrainz.connect).load("label", old) is None


def test_an_mbid_that_is_both_is_the_entity(musicbrainz: Database) -> None:
    musicbrainz.connection.execute("INSERT INTO artist_gid_redirect (gid, new_id) VALUES (%s, 11619)", (TRENTEMOLLER,))
    assert document(musicbrainz, "artist", TRENTEMOLLER)["id"] == 108703
