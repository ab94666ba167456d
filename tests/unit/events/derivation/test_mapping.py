from typing import Any

import orjson
import pytest

from events.derivation.entity_map import load, parse, url_column
from events.derivation.mapping import MENTIONS, NO_ENTITY, REASONS, ForeignKey, UndecidedTableError, build
from schemas.values import ENTITY_TYPES

M = "musicbrainz."


def test_a_part_leads_to_entities_directly_and_by_way_of_other_parts() -> None:
    tables = [M + name for name in ("release", "recording", "medium", "track", "artist_credit", "medium_format")]
    keys = [
        ForeignKey(M + "track", "recording", M + "recording"),
        ForeignKey(M + "track", "medium", M + "medium"),
        ForeignKey(M + "track", "artist_credit", M + "artist_credit"),
        ForeignKey(M + "medium", "release", M + "release"),
        ForeignKey(M + "medium", "format", M + "medium_format"),
        ForeignKey(M + "release", "artist_credit", M + "artist_credit"),
    ]
    described = build(31, tables, keys)["tables"]
    assert described[M + "track"] == {
        "role": "part",
        "owners": {"medium": M + "medium", "recording": M + "recording"},
    }
    assert described[M + "medium"] == {"role": "part", "owners": {"release": M + "release"}}
    assert described[M + "release"] == {"role": "entity", "entity": "release"}
    assert described[M + "medium_format"] == {"role": "none", "reason": "vocabulary"}


def test_a_table_that_leads_nowhere_and_is_not_decided_about_is_refused() -> None:
    with pytest.raises(UndecidedTableError, match=r"musicbrainz\.invented.*NO_ENTITY"):
        build(31, [M + "artist", M + "invented"], [])


def test_a_key_into_a_table_that_is_not_replicated_leads_nowhere() -> None:
    with pytest.raises(UndecidedTableError):
        build(31, [M + "invented"], [ForeignKey(M + "invented", "artist", M + "artist")])


def test_every_reason_is_explained_and_every_decision_is_about_a_real_table() -> None:
    tables = load().tables
    assert {table.reason for table in tables.values() if table.role == "none"} == set(REASONS)
    assert {table for table, _ in MENTIONS} <= tables.keys()
    for name in NO_ENTITY:
        assert any(table.startswith(name) if name.endswith(".") else table == name for table in tables), name


def test_the_committed_map_has_the_13_entities_and_where_their_old_mbids_lead() -> None:
    tables = load().tables.values()
    assert sorted(table.entity for table in tables if table.role == "entity") == sorted(ENTITY_TYPES)
    redirected = {table.entity for table in tables if table.role == "redirect"}
    assert redirected == set(ENTITY_TYPES) - {"genre"}  # genres are never merged


@pytest.mark.parametrize(
    ("table", "types"),
    [
        ("musicbrainz.track", ("recording", "release")),
        ("musicbrainz.medium_cdtoc", ("release",)),
        ("musicbrainz.track_gid_redirect", ("recording", "release")),
        ("musicbrainz.alternative_medium_track", ("recording", "release")),
        ("musicbrainz.release_label", ("release",)),
        ("musicbrainz.release_country", ("release",)),
        ("musicbrainz.l_artist_url", ("artist", "url")),
        ("musicbrainz.artist_tag", ("artist",)),
        ("musicbrainz.iso_3166_1", ("area",)),
        ("cover_art_archive.cover_art_type", ("release",)),
        ("event_art_archive.event_art_type", ("event",)),
        ("musicbrainz.artist_credit_name", ()),
        ("musicbrainz.link_attribute", ()),
        ("musicbrainz.edit", ()),
    ],
)
def test_what_hangs_off_what(table: str, types: tuple[str, ...]) -> None:
    assert load().entity_types(table) == types


def test_parts_are_looked_up_before_what_they_lead_to() -> None:
    entity_map = load()
    assert set(entity_map.via) == {
        M + "alternative_medium",
        M + "alternative_release",
        M + "medium",
        M + "track",
        "cover_art_archive.cover_art",
        "event_art_archive.event_art",
    }
    for position, table in enumerate(entity_map.via):
        assert not set(entity_map.tables[table].owners.values()) & set(entity_map.via[:position])


def test_the_order_of_look_up_does_not_depend_on_names() -> None:
    owners = {"m.a": {"x": "m.e"}, "m.b": {"x": "m.a"}, "m.c": {"x": "m.b", "y": "m.a"}}
    tables: dict[str, Any] = {name: {"role": "part", "owners": leads} for name, leads in owners.items()}
    tables["m.e"] = {"role": "entity", "entity": "artist"}
    raw = orjson.dumps({"schema_sequence": 1, "tables": tables})
    assert parse(raw).via == ("m.b", "m.a")


def test_the_url_end_of_a_relationship() -> None:
    assert url_column("musicbrainz.l_artist_url") == "entity1"
    assert url_column("musicbrainz.l_url_work") == "entity0"
    assert url_column("musicbrainz.l_artist_work") == ""
    assert url_column("musicbrainz.url") == ""
