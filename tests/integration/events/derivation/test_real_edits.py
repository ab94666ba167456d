"""Edits as MusicBrainz makes them, in the real schema, captured by real triggers."""

import uuid
from typing import Any

import pytest

from tests.integration.events.derivation.conftest import Database

CREATED, UPDATED, DELETED, MERGED = (f"entity.{what}" for what in ("created", "updated", "deleted", "merged"))

# What a row of each type needs besides its MBID: {} is a text that no other has, {table} the id of any row of a table.
NEEDED: dict[str, dict[str, Any]] = {
    "area": {"name": "{}"},
    "artist": {"name": "{}", "sort_name": "{}"},
    "event": {"name": "{}"},
    "genre": {"name": "{}"},
    "instrument": {"name": "{}"},
    "label": {"name": "{}"},
    "place": {"name": "{}"},
    "recording": {"name": "{}", "artist_credit": "{artist_credit}"},
    "release": {"name": "{}", "artist_credit": "{artist_credit}", "release_group": "{release_group}"},
    "release_group": {"name": "{}", "artist_credit": "{artist_credit}"},
    "series": {"name": "{}", "type": 1, "ordering_type": 1},
    "url": {"url": "{}"},
    "work": {"name": "{}"},
}


@pytest.fixture
def db(edited: Database) -> Database:
    """With the vocabulary that the sample data lack, and nothing to tell."""
    if edited.run("SELECT count(*) FROM series_type"):
        return edited
    vocabulary: dict[str, dict[str, Any]] = {
        "series_type": {"id": 1, "name": "T", "entity_type": "artist"},
        "series_ordering_type": {"id": 1, "name": "T"},
        "artist_attribute_type": {"id": 1, "name": "T", "free_text": True},
        "alternative_release_type": {"id": 1, "name": "T"},
        "cover_art_archive.art_type": {"id": 1, "name": "T"},
        "event_art_archive.art_type": {"id": 1, "name": "T"},
    }
    for table, columns in vocabulary.items():
        edited.insert(table, **columns, gid=uuid.uuid4())
    # Under which MusicBrainz's trigger puts every instrument.
    edited.insert("link_attribute_type", id=14, root=14, name="T", gid=uuid.uuid4())
    edited.insert("cover_art_archive.image_type", mime_type="image/jpeg", suffix="jpg")
    editor = {"name": "Aerozol", "email": "a@b.example", "email_confirm_date": "2020-01-01"}
    edited.insert("editor", id=1, **editor, password="", ha1="")
    edited.insert("edit", id=1, editor=1, type=1, status=1, expire_time="2030-01-01")
    assert edited.told() == set()
    return edited


def any_id(db: Database, table: str) -> int:
    row_id = db.run(f"SELECT min(id) FROM {table}")
    assert isinstance(row_id, int)
    return row_id


def make(db: Database, entity_type: str) -> tuple[int, str]:
    """Id and subject of a new entity."""
    mbid = str(uuid.uuid4())
    columns = {column: _value(db, value, mbid) for column, value in NEEDED[entity_type].items()}
    row_id = db.insert(entity_type, gid=mbid, **columns)
    if entity_type == "url":
        # MusicBrainz removes URLs that nothing is linked to.
        link_to(db, any_id(db, "artist"), row_id)
    return row_id, f"{entity_type}/{mbid}"


def link_to(db: Database, artist: int, url: int) -> int:
    """Id of a new relationship; its link is its own, for MusicBrainz removes links that nothing uses."""
    link = db.insert("link", link_type=any_id(db, "link_type"))
    relationship = db.insert("l_artist_url", link=link, entity0=artist, entity1=url)
    assert isinstance(relationship, int)
    return relationship


def _value(db: Database, value: Any, unique: str) -> Any:
    if value == "{}":
        return f"https://{unique}.example"
    return any_id(db, value.strip("{}")) if isinstance(value, str) else value


def subject(db: Database, entity_type: str, row_id: int) -> str:
    return f"{entity_type}/{db.mbid(entity_type, row_id)}"


@pytest.mark.parametrize("entity_type", NEEDED)
def test_every_core_entity_is_created_updated_and_deleted(db: Database, entity_type: str) -> None:
    row_id, name = make(db, entity_type)
    assert (CREATED, name) in db.told()
    column = "url" if entity_type == "url" else "name"
    db.run(f"UPDATE {entity_type} SET {column} = {column} || '/' WHERE id = %s", row_id)
    event = next(event for event in db.events() if event.subject == name)
    assert event.name == UPDATED
    assert column in event.data["changes"][0]["columns"]
    if entity_type == "url":
        db.run("DELETE FROM l_artist_url WHERE entity1 = %s", row_id)  # the rest is done by MusicBrainz's trigger
    else:
        db.run(f"DELETE FROM {entity_type} WHERE id = %s", row_id)
    assert (DELETED, name) in db.told()


@pytest.mark.parametrize("entity_type", sorted(NEEDED.keys() - {"url"}))
def test_aliases_hang_off_every_entity_that_has_names(db: Database, entity_type: str) -> None:
    row_id, name = make(db, entity_type)
    db.events()
    db.insert(f"{entity_type}_alias", **{entity_type: row_id}, name="B", sort_name="B")
    assert db.told() == {(UPDATED, name)}


def test_what_hangs_off_an_artist(db: Database) -> None:
    artist, name = make(db, "artist")
    db.events()
    annotation = db.insert("annotation", editor=1, text="x")
    db.insert("artist_annotation", artist=artist, annotation=annotation)
    db.insert("artist_tag", artist=artist, tag=db.insert("tag", name="t"), count=1)
    db.insert("artist_ipi", artist=artist, ipi="00014107338")
    db.insert("artist_attribute", artist=artist, artist_attribute_type=1, artist_attribute_text="x")
    db.run("UPDATE artist_meta SET rating = 80, rating_count = 1 WHERE id = %s", artist)
    (event,) = db.events()
    assert (event.name, event.subject) == (UPDATED, name)
    assert [change["table"].removeprefix("musicbrainz.") for change in event.data["changes"]] == [
        "artist_annotation",
        "artist_attribute",
        "artist_ipi",
        "artist_meta",
        "artist_tag",
    ]


def test_what_hangs_off_a_release_by_way_of_its_medium(db: Database) -> None:
    medium, release = db.connection.execute("SELECT id, release FROM medium ORDER BY id LIMIT 1").fetchone() or (0, 0)
    name = subject(db, "release", release)
    cdtoc = db.insert(
        "cdtoc", discid="x" * 28, freedb_id="12345678", track_count=1, leadout_offset=9000, track_offset=[150]
    )
    db.insert("medium_cdtoc", medium=medium, cdtoc=cdtoc)
    assert db.told() == {(UPDATED, name)}
    db.run("UPDATE medium SET name = 'Disc' WHERE id = %s", medium)
    assert db.told() == {(UPDATED, name)}


def test_a_track_is_its_recording_s_and_its_release_s(db: Database) -> None:
    track, recording, release = db.connection.execute(
        "SELECT track.id, recording, release FROM track JOIN medium ON medium.id = medium ORDER BY track.id LIMIT 1"
    ).fetchone() or (0, 0, 0)
    expected = {(UPDATED, subject(db, "recording", recording)), (UPDATED, subject(db, "release", release))}
    db.run("UPDATE track SET name = 'Other' WHERE id = %s", track)
    assert db.told() == expected
    db.insert("track_gid_redirect", gid=uuid.uuid4(), new_id=track)
    assert db.told() == expected


def test_alternative_tracklists_lead_to_release_and_recordings(db: Database) -> None:
    track, recording, medium, release = db.connection.execute(
        "SELECT track.id, recording, medium, release FROM track JOIN medium ON medium.id = medium "
        "ORDER BY track.id LIMIT 1"
    ).fetchone() or (0, 0, 0, 0)
    alternative = db.insert(
        "alternative_release",
        gid=uuid.uuid4(),
        release=release,
        name="Other",
        type=1,
        language=any_id(db, "language"),
        script=any_id(db, "script"),
    )
    alternative_medium = db.insert("alternative_medium", medium=medium, alternative_release=alternative)
    alternative_track = db.insert("alternative_track", name="Other")
    db.events()
    db.insert(
        "alternative_medium_track",
        alternative_medium=alternative_medium,
        track=track,
        alternative_track=alternative_track,
    )
    assert db.told() == {(UPDATED, subject(db, "recording", recording)), (UPDATED, subject(db, "release", release))}


def test_a_medium_that_goes_with_its_tracks_in_one_transaction_still_leads_to_the_release(db: Database) -> None:
    medium, release = db.connection.execute("SELECT id, release FROM medium ORDER BY id DESC").fetchone() or (0, 0)
    name = subject(db, "release", release)
    db.run("DELETE FROM medium_index WHERE medium = %s", medium)
    db.run("DELETE FROM track WHERE medium = %s", medium)
    db.run("DELETE FROM medium WHERE id = %s", medium)
    event = next(event for event in db.events() if event.subject == name)
    assert {"musicbrainz.medium", "musicbrainz.track"} <= {change["table"] for change in event.data["changes"]}


def test_a_merge_as_musicbrainz_does_it(db: Database) -> None:
    old, old_name = make(db, "artist")
    new, new_name = make(db, "artist")
    db.insert("artist_alias", artist=old, name="B", sort_name="B")
    relationship = link_to(db, old, any_id(db, "url"))
    db.events()
    db.run("UPDATE artist_alias SET artist = %s WHERE artist = %s", new, old)
    db.run("UPDATE l_artist_url SET entity0 = %s WHERE entity0 = %s", new, old)
    db.insert("artist_gid_redirect", gid=db.mbid("artist", old), new_id=new)
    db.run("DELETE FROM artist_meta WHERE id = %s", old)
    db.run("DELETE FROM artist WHERE id = %s", old)
    events = {(event.name, event.subject): event.data for event in db.events()}
    assert events.keys() >= {
        (MERGED, old_name),
        (UPDATED, new_name),
        ("link.removed", old_name),
        ("link.added", new_name),
    }
    assert (DELETED, old_name) not in events
    merged = events[MERGED, old_name]
    assert (merged["id"], merged["into_id"], f"artist/{merged['into_mbid']}") == (old, new, new_name)
    assert events["link.added", new_name]["relationship_id"] == relationship


def test_a_link_that_goes_takes_its_url_along_and_still_tells_it(db: Database) -> None:
    url, name = make(db, "url")
    text = db.run("SELECT url FROM url WHERE id = %s", url)
    artist = subject(db, "artist", any_id(db, "artist"))
    added = next(event for event in db.events() if event.name == "link.added")
    assert (added.subject, added.data["url"]) == (artist, text)
    db.run("DELETE FROM l_artist_url WHERE id = %s", added.data["relationship_id"])
    events = {(event.name, event.subject): event.data for event in db.events()}
    assert events["link.removed", artist]["url"] == text
    assert (DELETED, name) in events


def test_cover_art_is_added_typed_moved_with_a_merge_and_removed(db: Database) -> None:
    image = 12345678901
    old, old_name = make(db, "release")
    new, new_name = make(db, "release")
    db.events()
    art = "cover_art_archive.cover_art"
    db.insert(art, id=image, release=old, edit=1, ordering=1, mime_type="image/jpeg")
    assert ("artwork.changed", old_name) in db.told()
    db.insert("cover_art_archive.cover_art_type", id=image, type_id=1)
    assert {("artwork.changed", old_name), (UPDATED, old_name)} <= db.told()
    db.run(f"UPDATE {art} SET edits_pending = 1")
    assert not [event for event in db.events() if event.name.startswith("artwork.")]
    db.run(f"UPDATE {art} SET release = %s", new)
    db.insert("release_gid_redirect", gid=old_name.partition("/")[2], new_id=new)
    db.run("DELETE FROM release WHERE id = %s", old)
    moved = next(event for event in db.events() if event.name == "artwork.moved")
    assert (moved.subject, f"release/{moved.data['from_mbid']}") == (new_name, old_name)
    db.run("DELETE FROM release_gid_redirect WHERE new_id = %s", new)
    db.run("DELETE FROM release WHERE id = %s", new)  # the image goes with it
    assert {("artwork.removed", new_name), (DELETED, new_name), (DELETED, old_name)} <= db.told()


def test_event_art_belongs_to_its_event(db: Database) -> None:
    row_id, name = make(db, "event")
    db.insert("event_art_archive.event_art", id=99, event=row_id, edit=1, ordering=1, mime_type="image/jpeg")
    db.insert("event_art_archive.event_art_type", id=99, type_id=1)
    assert {("artwork.changed", name), (CREATED, name)} <= db.told()
