"""Which changes reach whom, and what hostile events do."""

from typing import Any

import pytest

from events.catalogue import EVENT_TYPES
from schemas.envelope import short_name
from schemas.values import ENTITY_TYPES
from workers.caches.actors import ACTOR, QUEUE
from workers.caches.core import MERGED, RULES, Reach, TheirEntity, bounded, plan, truncated_types
from workers.caches.keys import EntityKey

from .making import change, changed, event, linked, mbid, merged, truncated

GID = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"


def reached(*changes: dict[str, Any], entity_type: str = "artist", name: str = "entity.updated") -> set[Reach]:
    result = plan([changed(entity_type, 7, GID, *changes, name=name)])
    assert not result.problems
    return set(result.reach)


@pytest.mark.parametrize(
    ("entity_type", "made", "expected"),
    [
        ("artist", change("artist", "name"), {Reach.CREDITED}),
        ("artist", change("artist", "sort_name"), {Reach.CREDITED}),
        ("artist", change("artist", "comment", "edits_pending"), {Reach.CREDITED}),
        ("release", change("release_country", op="insert"), {Reach.GROUP}),
        ("release", change("release_country", "date_year"), {Reach.GROUP}),
        ("release", change("release_unknown_country", op="delete"), {Reach.GROUP}),
        ("release", change("release", "release_group"), {Reach.GROUP}),
        ("release", change("medium", "format"), {Reach.RECORDED}),
        ("release", change("medium", "release"), {Reach.RECORDED}),
    ],
)
def test_what_others_show_reaches_them(entity_type: str, made: dict[str, Any], expected: set[Reach]) -> None:
    assert reached(made, entity_type=entity_type) == expected


@pytest.mark.parametrize(
    ("entity_type", "made"),
    [
        ("artist", change("artist", "edits_pending")),
        ("artist", change("artist", "last_updated", "area", "begin_date_year", "type")),
        ("artist", change("artist", op="insert")),
        ("artist", change("artist_alias", "name", op="insert")),
        ("artist", change("artist_tag", "count")),
        ("artist", change("l_artist_url", op="insert")),
        ("label", change("label", "name")),
        ("recording", change("recording", "name")),
        ("recording", change("track", "recording")),
        ("release", change("release", "name", "edits_pending")),
        ("release", change("medium", "edits_pending", "track_count", "last_updated")),
        ("release", change("medium", op="insert")),
        ("release", change("track", "name")),
        ("release_group", change("release_group", "name")),
    ],
)
def test_what_nobody_else_shows_reaches_nobody(entity_type: str, made: dict[str, Any]) -> None:
    assert reached(made, entity_type=entity_type) == set()


def test_a_deleted_entity_has_no_dependants_that_could_still_be_found() -> None:
    assert reached(change("artist", "name", op="delete"), name="entity.deleted") == set()


def test_the_dates_of_a_new_release_reach_its_group() -> None:
    assert reached(change("release_country", op="insert"), entity_type="release", name="entity.created") == {
        Reach.GROUP
    }


def test_one_change_of_many_is_enough() -> None:
    assert reached(change("artist_tag", "count"), change("artist", "edits_pending"), change("artist", "name"))


def test_a_merge_is_of_both_mbids_and_reaches_from_the_one_that_stays() -> None:
    old, new = mbid(), mbid()
    for entity_type in ENTITY_TYPES:
        result = plan([merged(entity_type, (1, old), (2, new))])
        assert set(result.own) == {EntityKey(entity_type, old), EntityKey(entity_type, new)}
        assert set(result.theirs) == {TheirEntity(entity_type, 1, old), TheirEntity(entity_type, 2, new)}
        assert {way: set(ids) for way, ids in result.reach.items()} == {way: {2} for way in MERGED.get(entity_type, ())}


@pytest.mark.parametrize("name", ["link.added", "link.removed"])
def test_a_link_is_of_its_subject_and_leaves_the_rows_of_musicbrainz_alone(name: str) -> None:
    result = plan([linked(name, "artist", 7, GID)])
    assert set(result.own) == {EntityKey("artist", GID)}
    assert not result.theirs


def test_many_events_of_one_entity_ask_once_and_the_first_is_the_cause() -> None:
    events = [changed("artist", 7, GID, change("artist", "name")) for _ in range(5)]
    result = plan(events)
    (cause,) = result.own.values()
    assert (cause.id, cause.source, cause.sequence) == (events[0]["id"], events[0]["source"], events[0]["sequence"])
    assert result.reach[Reach.CREDITED] == {7: cause}
    assert len(result.theirs) == 1


def test_an_mbid_that_led_nowhere_but_to_another_entity_has_no_row_and_reaches_nobody() -> None:
    old, new = mbid(), mbid()
    result = plan([merged("artist", (None, old), (2, new))])
    assert set(result.own) == {EntityKey("artist", old), EntityKey("artist", new)}
    assert set(result.theirs) == {TheirEntity("artist", None, old), TheirEntity("artist", 2, new)}
    assert not result.reach


def test_an_entity_that_got_another_mbid_is_forgotten_under_both_and_so_are_those_that_show_it() -> None:
    old = mbid()
    result = plan([changed("recording", 7, GID, change("recording", "gid"), previous_mbid=old)])
    assert set(result.own) == {EntityKey("recording", old), EntityKey("recording", GID)}
    assert set(result.theirs) == {TheirEntity("recording", None, old), TheirEntity("recording", 7, GID)}
    assert set(result.void) == {"release"}


@pytest.mark.parametrize(
    ("table", "entity_types", "expected"),
    [
        ("musicbrainz.place", ("place",), {"place"}),
        ("musicbrainz.artist", ("artist",), {"artist", "recording", "release", "release_group"}),
        ("musicbrainz.artist_credit", (), {"recording", "release", "release_group"}),
        ("musicbrainz.artist_credit_name", (), {"recording", "release", "release_group"}),
        ("musicbrainz.artist_alias", ("artist",), {"artist"}),
        ("musicbrainz.release_country", ("release",), {"release", "release_group"}),
        ("musicbrainz.medium", ("release",), {"release", "recording"}),
        ("musicbrainz.recording", ("recording",), {"recording", "release"}),
        ("musicbrainz.l_artist_url", ("artist", "url"), {"artist", "url"}),
        ("cover_art_archive.artist", (), set()),
        ("musicbrainz.gender", (), set()),
    ],
)
def test_a_truncation_voids_those_whose_documents_show_the_table(
    table: str, entity_types: tuple[str, ...], expected: set[str]
) -> None:
    assert truncated_types(table, entity_types) == expected
    result = plan([truncated(table, *entity_types)])
    assert set(result.void) == expected
    assert not result.own


def test_the_made_events_are_of_the_catalogues_form_and_all_of_ours_are_understood() -> None:
    events = [
        changed("artist", 7, GID, change("artist", "name"), name="entity.created"),
        changed("artist", 7, GID, change("artist", "name"), previous_mbid=mbid()),
        changed("artist", 7, GID, change("artist", "name"), name="entity.deleted"),
        changed("artist", 7, GID, change("artist", op="delete"), name="entity.deleted"),
        merged("artist", (None, mbid()), (2, GID)),
        linked("link.added", "artist", 7, GID),
        linked("link.removed", "artist", 7, GID),
        truncated("musicbrainz.artist", "artist"),
    ]
    assert plan(events).problems == []
    names = {short_name(each["type"]) for each in events}
    assert names == {
        name for name, each in EVENT_TYPES.items() if (ACTOR, QUEUE) in {(a.name, a.queue) for a in each.actors}
    }
    for each in events:
        EVENT_TYPES[short_name(each["type"])].payload.model_validate(each["data"])


def test_the_rules_name_tables_and_columns_of_events_of_that_entity() -> None:
    assert all(table.startswith("musicbrainz.") and entity_type in ENTITY_TYPES for entity_type, table in RULES)
    assert not any(rule.columns & {"edits_pending", "last_updated"} for rule in RULES.values() if rule.columns)


def broken(**fields: Any) -> dict[str, Any]:
    good = changed("artist", 7, GID, change("artist", "name"))
    return {**good, **fields}


def broken_data(**fields: Any) -> dict[str, Any]:
    good = changed("artist", 7, GID, change("artist", "name"))
    return {**good, "data": {**good["data"], **fields}}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (None, "a NoneType is no event"),
        ("artist", "a str is no event"),
        ([], "a list is no event"),
        ({}, "it has no type"),
        (broken(id=""), "it has no id"),
        (broken(id=5), "it has no id"),
        (broken(source=None), "it has no source"),
        (broken(type="org.musicbrainz.edit.opened.v1"), "none that the caches know"),
        (broken(type="entity.updated"), "none that the caches know"),
        (broken(data=None), "it has no data"),
        (broken(data=[1]), "it has no data"),
        (broken_data(entity_type="editor"), "'editor' is no entity type"),
        (broken_data(entity_type=None), "None is no entity type"),
        (broken_data(entity_type=["artist"]), "is no entity type"),
        (broken_data(mbid="x' OR 1=1"), "is no MBID"),
        (broken_data(mbid=f"{GID}:lease"), "is no MBID"),
        (broken_data(mbid=7), "7 is no MBID"),
        (broken_data(id=1.0), "1.0 is no row id"),
        (broken_data(id="7"), "'7' is no row id"),
        (broken_data(id=True), "True is no row id"),
        (broken_data(id=2**31), "is no row id"),
        (broken_data(id=-1), "is no row id"),
        (broken_data(changes=None), "changes are not a list"),
        (broken_data(changes=["name"]), "is not an object"),
        (broken_data(changes=[{"table": "musicbrainz.artist", "op": "x"}]), "an op that is none"),
        (broken_data(changes=[{"table": 1, "op": "update"}]), "has no table"),
        (broken_data(changes=[{"table": "musicbrainz.artist", "op": "update", "columns": "name"}]), "no list of names"),
        (broken_data(changes=[{"table": "musicbrainz.artist", "op": "update", "columns": [1]}]), "no list of names"),
        (event("entity.merged", f"artist/{GID}", {"entity_type": "artist", "id": 1, "mbid": GID}), "None is no MBID"),
        (event("link.added", "artist", {"entity_type": "artist"}), "None is no MBID"),
        (event("table.truncated", "table/x.y", {}), "it has no table"),
        (event("table.truncated", "table/x.y", {"table": "x.y"}), "None are no list of entity types"),
        (
            event("table.truncated", "table/x.y", {"table": "x.y", "entity_types": ["editor"]}),
            "no list of entity types",
        ),
        (event("table.truncated", "table/x.y", {"table": "x.y", "entity_types": [[]]}), "no list of entity types"),
        (broken_data(previous_mbid="x"), "'x' is no MBID"),
        (broken_data(previous_mbid=5), "5 is no MBID"),
        (broken_data(mbid="x" * 10_000), "is no MBID"),
    ],
)
def test_nonsense_is_told_plans_nothing_and_hinders_no_other(raw: Any, told: str) -> None:
    good = changed("work", 3, mbid(), change("work", "name"))
    result = plan([raw, good])
    assert len(result.problems) == 1
    assert told in result.problems[0]
    assert len(result.problems[0]) < 400
    assert {key.entity_type for key in result.own} == {"work"}
    assert not result.reach
    assert not result.void
    assert len(result.theirs) == 1


def keys(entity_type: str, number: int) -> list[EntityKey]:
    return [EntityKey(entity_type, mbid()) for _ in range(number)]


def test_up_to_the_limit_dependants_are_forgotten_one_by_one() -> None:
    found = {"recording": keys("recording", 6), "release": keys("release", 4)}
    one_by_one, void = bounded(found, (), 10)
    assert len(one_by_one) == 10
    assert void == []


def test_beyond_the_limit_the_largest_types_are_forgotten_as_a_whole() -> None:
    found = {"recording": keys("recording", 7), "release": keys("release", 4)}
    assert bounded(found, (), 10) == (found["release"], ["recording"])
    assert bounded(found, (), 3) == ([], ["release", "recording"])
    assert bounded(found, (), 0) == ([], ["release", "recording"])


def test_what_was_not_counted_to_its_end_is_forgotten_as_a_whole() -> None:
    found = {"recording": keys("recording", 1)}
    assert bounded(found, {"recording", "release"}, 10) == ([], ["recording", "release"])
