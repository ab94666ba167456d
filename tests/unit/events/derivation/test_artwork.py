import pytest

from tests.unit.events.derivation.changes import FakeResolver, Feed, Row, derive, mbid

COVER, COVER_TYPE = "cover_art_archive.cover_art", "cover_art_archive.cover_art_type"
POSTER, POSTER_TYPE = "event_art_archive.event_art", "event_art_archive.event_art_type"
IMAGE = 12345678901  # beyond 32 bits, as they really are


@pytest.fixture
def feed() -> Feed:
    return Feed()


def cover(release: int = 1, **columns: object) -> Row:
    return {"id": IMAGE, "release": release, "comment": "", "mime_type": "image/png", "edits_pending": 0} | columns


def artwork(feed: Feed, resolver: FakeResolver | None = None) -> list[tuple[str, str, Row]]:
    drafts = derive(feed, resolver)
    return [(draft.name, draft.subject, draft.data) for draft in drafts if draft.name.startswith("artwork.")]


def test_a_new_image_with_its_types_is_one_event(feed: Feed) -> None:
    feed.insert(COVER, cover())
    feed.insert(COVER_TYPE, {"id": IMAGE, "type_id": 1})
    feed.insert(COVER_TYPE, {"id": IMAGE, "type_id": 2})
    (event,) = artwork(feed, FakeResolver(parts={(COVER, IMAGE): (1,)}))
    assert event[:2] == ("artwork.changed", f"release/{mbid(1)}")
    assert (event[2]["image_id"], event[2]["action"]) == (IMAGE, "insert")
    assert [change["rows"] for change in event[2]["changes"]] == [1, 2]


def test_another_type_is_a_change_of_the_image(feed: Feed) -> None:
    feed.delete(COVER_TYPE, {"id": IMAGE, "type_id": 1})
    feed.insert(COVER_TYPE, {"id": IMAGE, "type_id": 2})
    ((name, subject, data),) = artwork(feed, FakeResolver(parts={(COVER, IMAGE): (1,)}))
    assert (name, subject, data["action"]) == ("artwork.changed", f"release/{mbid(1)}", "update")


def test_open_edits_are_no_change_of_an_image(feed: Feed) -> None:
    feed.update(COVER, cover(), {"edits_pending": 1})
    assert artwork(feed) == []


def test_an_image_of_an_event_is_the_event_s(feed: Feed) -> None:
    feed.insert(POSTER, {"id": IMAGE, "event": 3, "mime_type": "image/png"})
    feed.insert(POSTER_TYPE, {"id": IMAGE, "type_id": 1})
    ((name, subject, data),) = artwork(feed, FakeResolver(parts={(POSTER, IMAGE): (3,)}))
    assert (name, subject, data["entity_type"]) == ("artwork.changed", f"event/{mbid(3)}", "event")


def test_a_merge_moves_the_image(feed: Feed) -> None:
    feed.update(COVER, cover(1), {"release": 2})
    feed.insert("musicbrainz.release_gid_redirect", {"gid": mbid(1), "new_id": 2})
    feed.delete("musicbrainz.release", {"id": 1, "gid": mbid(1)})
    ((name, subject, data),) = artwork(feed, FakeResolver(gone={("musicbrainz.release", 1)}))
    assert (name, subject) == ("artwork.moved", f"release/{mbid(2)}")
    assert (data["from_id"], data["from_mbid"], data["mime_type"]) == (1, mbid(1), "image/png")


def test_an_image_that_moves_away_and_back_only_changed(feed: Feed) -> None:
    feed.update(COVER, cover(1), {"release": 2})
    feed.update(COVER, cover(2), {"release": 1})
    assert [event[:2] for event in artwork(feed)] == [("artwork.changed", f"release/{mbid(1)}")]


def test_images_go_with_their_release(feed: Feed) -> None:
    feed.delete("musicbrainz.release", {"id": 1, "gid": mbid(1)})
    feed.delete(COVER, cover())
    feed.delete(COVER_TYPE, {"id": IMAGE, "type_id": 1})
    resolver = FakeResolver(gone={("musicbrainz.release", 1)})
    ((name, subject, data),) = artwork(feed, resolver)
    assert (name, subject, data["mime_type"]) == ("artwork.removed", f"release/{mbid(1)}", "image/png")
    assert resolver.asked == []


def test_a_moved_and_removed_image_was_its_old_owner_s(feed: Feed) -> None:
    feed.update(COVER, cover(1), {"release": 2})
    feed.delete(COVER, cover(2))
    assert [event[:2] for event in artwork(feed)] == [("artwork.removed", f"release/{mbid(1)}")]


def test_added_and_removed_at_once_is_removed(feed: Feed) -> None:
    feed.insert(COVER, cover())
    feed.delete(COVER, cover())
    assert [event[:2] for event in artwork(feed)] == [("artwork.removed", f"release/{mbid(1)}")]
