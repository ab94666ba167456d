import pytest

from events.derivation.core import Deriver
from schemas.values import ENTITY_TYPES
from tests.unit.events.derivation.changes import XID, FakeResolver, Feed, Row, check, derive, mbid, told

ARTIST = "musicbrainz.artist"
REDIRECT = "musicbrainz.artist_gid_redirect"


@pytest.fixture
def feed() -> Feed:
    return Feed()


def artist(number: int, **columns: object) -> Row:
    return {"id": number, "gid": mbid(number), "name": "Old name", "area": 1, "edits_pending": 0} | columns


@pytest.mark.parametrize("entity_type", ENTITY_TYPES)
def test_every_core_entity_is_created_updated_and_deleted(feed: Feed, entity_type: str) -> None:
    table = f"musicbrainz.{entity_type}"
    row = {"id": 1, "gid": mbid(1), "name": "A", "url": "https://a.example"}
    feed.insert(table, row, xid=1)
    feed.update(table, row, {"name": "B"}, xid=2)
    feed.delete(table, row | {"name": "B"}, xid=3)
    drafts = derive(feed)
    subject = f"{entity_type}/{mbid(1)}"
    assert told(drafts) == [("entity.created", subject), ("entity.updated", subject), ("entity.deleted", subject)]
    assert drafts[1].data == {
        "entity_type": entity_type,
        "id": 1,
        "mbid": mbid(1),
        "changes": [{"table": table, "op": "update", "columns": ["name"], "rows": 1}],
    }


def test_several_changes_of_one_entity_in_one_transaction_are_one_event(feed: Feed) -> None:
    feed.update(ARTIST, artist(1), {"name": "B"})
    feed.insert("musicbrainz.artist_alias", {"id": 8, "artist": 1, "name": "A"})
    feed.insert("musicbrainz.artist_alias", {"id": 9, "artist": 1, "name": "B"})
    feed.update(ARTIST, artist(1, name="B"), {"name": "C"})
    (event,) = derive(feed)
    assert event.data["changes"] == [
        {"table": "musicbrainz.artist", "op": "update", "columns": ["name"], "rows": 2},
        {"table": "musicbrainz.artist_alias", "op": "insert", "columns": [], "rows": 2},
    ]


def test_what_a_core_row_points_to_is_only_mentioned(feed: Feed) -> None:
    feed.update(ARTIST, artist(1), {"area": 2})
    assert told(derive(feed)) == [("entity.updated", f"artist/{mbid(1)}")]


def test_an_update_that_changes_nothing_is_nothing(feed: Feed) -> None:
    feed.update(ARTIST, artist(1), {})
    feed.update("musicbrainz.artist_alias", {"id": 8, "artist": 1}, {})
    assert derive(feed) == []


def test_created_and_deleted_at_once_is_deleted(feed: Feed) -> None:
    feed.insert(ARTIST, artist(1))
    feed.delete(ARTIST, artist(1))
    assert told(derive(feed)) == [("entity.deleted", f"artist/{mbid(1)}")]


def test_created_and_changed_at_once_is_created(feed: Feed) -> None:
    feed.insert(ARTIST, artist(1))
    feed.update(ARTIST, artist(1), {"name": "B"})
    assert told(derive(feed)) == [("entity.created", f"artist/{mbid(1)}")]


def test_deleted_and_inserted_again_is_updated(feed: Feed) -> None:
    feed.delete(ARTIST, artist(1))
    feed.insert(ARTIST, artist(1, name="B"))
    assert told(derive(feed)) == [("entity.updated", f"artist/{mbid(1)}")]


def test_another_mbid_is_an_update_that_names_the_one_before(feed: Feed) -> None:
    feed.update(ARTIST, artist(1), {"gid": mbid(2)})
    feed.update(ARTIST, artist(1, gid=mbid(2)), {"gid": mbid(3)})
    (event,) = derive(feed)
    assert event.subject == f"artist/{mbid(3)}"
    assert event.data["previous_mbid"] == mbid(1)


def test_a_deleted_entity_is_named_as_the_world_knew_it(feed: Feed) -> None:
    feed.update(ARTIST, artist(1), {"gid": mbid(2)})
    feed.delete(ARTIST, artist(1, gid=mbid(2)))
    assert told(derive(feed)) == [("entity.deleted", f"artist/{mbid(1)}")]


def test_a_part_that_moves_updates_both_owners(feed: Feed) -> None:
    feed.update("musicbrainz.artist_alias", {"id": 8, "artist": 1}, {"artist": 2})
    assert {draft.subject for draft in derive(feed)} == {f"artist/{mbid(1)}", f"artist/{mbid(2)}"}


def test_a_relationship_is_part_of_both_ends_and_of_one_if_they_are_the_same(feed: Feed) -> None:
    relationship = {"id": 5, "link": 1, "edits_pending": 0}
    feed.insert("musicbrainz.l_artist_recording", relationship | {"entity0": 1, "entity1": 2}, xid=1)
    feed.insert("musicbrainz.l_artist_artist", relationship | {"entity0": 3, "entity1": 3}, xid=2)
    drafts = derive(feed)
    assert [draft.subject for draft in drafts] == [f"artist/{mbid(1)}", f"recording/{mbid(2)}", f"artist/{mbid(3)}"]
    assert drafts[2].data["changes"][0]["rows"] == 1


def test_a_relationship_with_a_mood_is_part_of_the_other_end_only(feed: Feed) -> None:
    feed.insert("musicbrainz.l_mood_url", {"id": 5, "link": 1, "entity0": 1, "entity1": 2})
    assert told(derive(feed)) == [("entity.updated", f"url/{mbid(2)}")]


def test_a_track_is_part_of_its_recording_and_by_its_medium_of_a_release(feed: Feed) -> None:
    feed.insert("musicbrainz.track", {"id": 1, "recording": 2, "medium": 3})
    feed.insert("musicbrainz.track", {"id": 2, "recording": 2, "medium": 3})
    resolver = FakeResolver(parts={("musicbrainz.medium", 3): (4,)})
    drafts = derive(feed, resolver)
    assert {draft.subject: draft.data["changes"][0]["rows"] for draft in drafts} == {
        f"recording/{mbid(2)}": 2,
        f"release/{mbid(4)}": 2,
    }
    assert sorted(resolver.asked) == ["musicbrainz.medium", "recording", "release"]


def test_parts_of_parts_lead_all_the_way(feed: Feed) -> None:
    feed.insert("musicbrainz.alternative_medium_track", {"alternative_medium": 1, "track": 2, "alternative_track": 3})
    resolver = FakeResolver(
        parts={
            ("musicbrainz.alternative_medium", 1): (4, 5),  # alternative_release, medium
            ("musicbrainz.alternative_release", 4): (6,),
            ("musicbrainz.track", 2): (5, 7),  # medium, recording
            ("musicbrainz.medium", 5): (6,),
        }
    )
    assert {draft.subject for draft in derive(feed, resolver)} == {f"release/{mbid(6)}", f"recording/{mbid(7)}"}


def test_a_deleted_medium_tells_itself_where_its_parts_belonged(feed: Feed) -> None:
    feed.delete("musicbrainz.track", {"id": 1, "recording": 2, "medium": 3})
    feed.delete("musicbrainz.medium", {"id": 3, "release": 4, "name": ""})
    resolver = FakeResolver()
    drafts = derive(feed, resolver)
    assert {draft.subject for draft in drafts} == {f"recording/{mbid(2)}", f"release/{mbid(4)}"}
    assert "musicbrainz.medium" not in resolver.asked


def test_a_merge_is_told_of_the_old_mbid_and_not_as_a_deletion(feed: Feed) -> None:
    feed.update("musicbrainz.artist_alias", {"id": 8, "artist": 1}, {"artist": 2})
    feed.insert(REDIRECT, {"gid": mbid(1), "new_id": 2})
    feed.delete(ARTIST, artist(1))
    updated, merged = sorted(derive(feed), key=lambda draft: draft.name, reverse=True)
    assert (updated.name, updated.subject) == ("entity.updated", f"artist/{mbid(2)}")
    assert (merged.name, merged.subject) == ("entity.merged", f"artist/{mbid(1)}")
    assert merged.data["id"] == 1
    assert (merged.data["into_id"], merged.data["into_mbid"]) == (2, mbid(2))


def test_a_survivor_that_did_not_change_has_no_event(feed: Feed) -> None:
    feed.insert(REDIRECT, {"gid": mbid(1), "new_id": 2})
    feed.delete(ARTIST, artist(1))
    assert told(derive(feed)) == [("entity.merged", f"artist/{mbid(1)}")]


def test_an_older_redirect_that_is_led_on_is_a_merge_too(feed: Feed) -> None:
    feed.update(REDIRECT, {"gid": mbid(1), "new_id": 2}, {"new_id": 3})
    feed.insert(REDIRECT, {"gid": mbid(2), "new_id": 3})
    feed.delete(ARTIST, artist(2))
    drafts = derive(feed)
    assert {(draft.name, draft.subject, draft.data["id"], draft.data["into_mbid"]) for draft in drafts} == {
        ("entity.merged", f"artist/{mbid(1)}", None, mbid(3)),
        ("entity.merged", f"artist/{mbid(2)}", 2, mbid(3)),
    }


def test_a_chain_of_merges_in_one_transaction_leads_to_its_end(feed: Feed) -> None:
    feed.insert(REDIRECT, {"gid": mbid(1), "new_id": 2})
    feed.delete(ARTIST, artist(1))
    feed.update(REDIRECT, {"gid": mbid(1), "new_id": 2}, {"new_id": 3})
    feed.insert(REDIRECT, {"gid": mbid(2), "new_id": 3})
    feed.delete(ARTIST, artist(2))
    assert [draft.data["into_id"] for draft in derive(feed)] == [3, 3]


def test_a_redirect_that_goes_leads_nowhere_any_more(feed: Feed) -> None:
    feed.delete(REDIRECT, {"gid": mbid(1), "new_id": 2})
    feed.delete(ARTIST, artist(2))
    drafts = derive(feed)
    assert told(drafts) == [("entity.deleted", f"artist/{mbid(1)}"), ("entity.deleted", f"artist/{mbid(2)}")]
    assert drafts[0].data["id"] is None


def test_an_mbid_that_comes_back_from_a_redirect_is_created_only(feed: Feed) -> None:
    feed.delete(REDIRECT, {"gid": mbid(1), "new_id": 2})
    feed.insert(ARTIST, artist(1))
    assert told(derive(feed)) == [("entity.created", f"artist/{mbid(1)}")]


def test_an_entity_deleted_by_a_later_transaction_of_the_batch_is_still_named(feed: Feed) -> None:
    feed.insert("musicbrainz.artist_alias", {"id": 8, "artist": 1}, xid=1)
    feed.delete(ARTIST, artist(1), xid=2)
    resolver = FakeResolver(gone={(ARTIST, 1)})
    assert told(derive(feed, resolver)) == [
        ("entity.updated", f"artist/{mbid(1)}"),
        ("entity.deleted", f"artist/{mbid(1)}"),
    ]
    assert "deleted" not in resolver.asked


def test_what_was_deleted_later_is_found_in_what_capture_kept(feed: Feed) -> None:
    feed.insert("musicbrainz.medium_cdtoc", {"id": 1, "medium": 3, "cdtoc": 4})
    resolver = FakeResolver(
        gone={("musicbrainz.release", 5)},
        graves={
            ("musicbrainz.medium", 3): {"id": 3, "release": 5},
            ("musicbrainz.release", 5): {"id": 5, "gid": mbid(5)},
        },
    )
    assert told(derive(feed, resolver)) == [("entity.updated", f"release/{mbid(5)}")]


def test_what_nobody_knows_any_more_is_counted_and_left_out(feed: Feed) -> None:
    feed.insert("musicbrainz.artist_alias", {"id": 8, "artist": 1})
    feed.insert("musicbrainz.artist_alias", {"id": 9, "artist": 2})
    feed.insert("musicbrainz.medium_cdtoc", {"id": 1, "medium": 3, "cdtoc": 4})
    deriver = Deriver("db")
    deriver.add(feed.changes)
    drafts = deriver.drafts([XID], FakeResolver(gone={(ARTIST, 1)}))
    assert told(drafts) == [("entity.updated", f"artist/{mbid(2)}")]
    assert deriver.unresolved == 2


def test_a_table_or_column_that_is_unknown_is_counted_and_stops_nothing(feed: Feed) -> None:
    feed.insert("musicbrainz.invented", {"id": 1}, xid=1)
    feed.insert("musicbrainz.artist_alias", {"id": 1, "performer": 1}, xid=1)
    feed.insert(ARTIST, artist(1), xid=2)
    deriver = Deriver("db")
    deriver.add(feed.changes)
    drafts = deriver.drafts([1, 2], FakeResolver())
    check(drafts)
    assert told(drafts) == [("entity.created", f"artist/{mbid(1)}")]
    assert deriver.unknown_tables == {"musicbrainz.invented": 1}
    assert deriver.unreadable == {"musicbrainz.artist_alias": 1}


def test_vocabulary_and_shared_tables_are_no_entity(feed: Feed) -> None:
    for table in ("artist_type", "link", "artist_credit_name", "annotation", "replication_control", "editor"):
        feed.insert(f"musicbrainz.{table}", {"id": 1, "artist": 1})
    assert derive(feed) == []


def test_mentions_are_no_owners(feed: Feed) -> None:
    feed.insert("musicbrainz.release_label", {"id": 1, "release": 2, "label": 3})
    feed.insert("musicbrainz.release_country", {"release": 2, "country": 4})
    feed.insert("cover_art_archive.release_group_cover_art", {"release_group": 5, "release": 2})
    assert {draft.subject for draft in derive(feed)} == {f"release/{mbid(2)}", f"release_group/{mbid(5)}"}
