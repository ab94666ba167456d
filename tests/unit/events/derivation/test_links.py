import pytest

from tests.unit.events.derivation.changes import FakeResolver, Feed, Row, derive, mbid, told

TABLE = "musicbrainz.l_artist_url"
ADDED, REMOVED, UPDATED = "link.added", "link.removed", "entity.updated"


@pytest.fixture
def feed() -> Feed:
    return Feed()


def relationship(entity: int = 1, url: int = 2, link: int = 3) -> Row:
    return {"id": 9, "link": link, "entity0": entity, "entity1": url, "edits_pending": 0, "link_order": 0}


def test_a_new_link_tells_the_url(feed: Feed) -> None:
    feed.insert(TABLE, relationship())
    drafts = derive(feed)
    assert told(drafts) == [
        (UPDATED, f"artist/{mbid(1)}"),
        (UPDATED, f"url/{mbid(2)}"),
        (ADDED, f"artist/{mbid(1)}"),
    ]
    assert drafts[2].data == {
        "entity_type": "artist",
        "id": 1,
        "mbid": mbid(1),
        "table": TABLE,
        "relationship_id": 9,
        "link_id": 3,
        "url_id": 2,
        "url_mbid": mbid(2),
        "url": "https://www.wikidata.org/wiki/Q2",
    }


def test_a_url_may_be_the_first_end(feed: Feed) -> None:
    feed.insert("musicbrainz.l_url_work", {"id": 9, "link": 3, "entity0": 2, "entity1": 1})
    assert told(derive(feed))[2] == (ADDED, f"work/{mbid(1)}")


def test_a_link_that_goes_with_its_url_tells_the_url_that_it_was(feed: Feed) -> None:
    feed.delete(TABLE, relationship())
    feed.delete("musicbrainz.url", {"id": 2, "gid": mbid(2), "url": "https://gone.example"})
    removed = next(
        draft for draft in derive(feed, FakeResolver(gone={("musicbrainz.url", 2)})) if draft.name == REMOVED
    )
    assert (removed.data["url"], removed.data["url_mbid"]) == ("https://gone.example", mbid(2))


def test_a_url_deleted_by_a_later_transaction_is_still_told(feed: Feed) -> None:
    feed.insert(TABLE, relationship(), xid=1)
    feed.delete(TABLE, relationship(), xid=2)
    feed.delete("musicbrainz.url", {"id": 2, "gid": mbid(2), "url": "https://gone.example"}, xid=2)
    drafts = derive(feed, FakeResolver(gone={("musicbrainz.url", 2)}))
    assert [draft.data["url"] for draft in drafts if draft.name in (ADDED, REMOVED)] == ["https://gone.example"] * 2


def test_a_url_that_only_capture_still_knows_is_told(feed: Feed) -> None:
    feed.insert(TABLE, relationship())
    grave = {"id": 2, "gid": mbid(2), "url": "https://gone.example"}
    resolver = FakeResolver(gone={("musicbrainz.url", 2)}, graves={("musicbrainz.url", 2): grave})
    assert [draft.data["url"] for draft in derive(feed, resolver) if draft.name == ADDED] == ["https://gone.example"]


def test_a_moved_link_is_removed_and_then_added(feed: Feed) -> None:
    feed.update(TABLE, relationship(), {"entity0": 4})
    assert [pair for pair in told(derive(feed)) if pair[0] != UPDATED] == [
        (REMOVED, f"artist/{mbid(1)}"),
        (ADDED, f"artist/{mbid(4)}"),
    ]


def test_bookkeeping_is_no_link(feed: Feed) -> None:
    feed.update(TABLE, relationship(), {"edits_pending": 1})
    feed.update(TABLE, relationship() | {"edits_pending": 1}, {"link_order": 2})
    assert {draft.name for draft in derive(feed)} == {UPDATED}


def test_a_link_that_comes_and_goes_in_one_transaction_was_never_there(feed: Feed) -> None:
    feed.insert(TABLE, relationship())
    feed.delete(TABLE, relationship())
    assert {draft.name for draft in derive(feed)} == {UPDATED}


def test_a_link_of_another_type_is_another_link(feed: Feed) -> None:
    feed.update(TABLE, relationship(), {"link": 4})
    assert [draft.data["link_id"] for draft in derive(feed) if draft.name != UPDATED] == [3, 4]
