"""The order of an invalidation, and who loads what."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from events.errors import UsageError
from schemas.cache import CacheInvalidated
from schemas.envelope import Event
from tests.unit.workers.leased.making import FakeLeased
from workers.caches.core import Found as FoundDependant
from workers.caches.core import Reach
from workers.caches.keys import Cached, EntityKey, Known, Redirect
from workers.caches.service import Invalidator
from workers.leased.core import Found
from workers.leased.service import StoreUnavailableError
from workers.nonsense import InvalidEventsError

from .making import (
    FakeAnnouncements,
    FakeDependants,
    FakeMusicBrainz,
    FakeTelemetry,
    change,
    changed,
    entity_cache,
    mbid,
    merged,
    truncated,
)

GID = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"


class Made:
    """An invalidator over stand-ins that note what happens in one log."""

    def __init__(self, *found: FoundDependant, overflowed: tuple[str, ...] = (), limit: int = 100) -> None:
        self.log: list[Any] = []
        self.entries = FakeLeased(self.log)
        self.announcements = FakeAnnouncements(self.log)
        self.telemetry = FakeTelemetry()
        self.invalidator = Invalidator(
            entries=self.entries,
            dependants=FakeDependants(self.log, *found, overflowed=overflowed),
            announcements=self.announcements,
            musicbrainz=FakeMusicBrainz(self.log),
            fanout_limit=limit,
            telemetry=self.telemetry,
            now=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        )

    @property
    def steps(self) -> list[str]:
        return [entry[0] for entry in self.log]

    def announced(self) -> list[Event]:
        return [Event.from_dict(orjson.loads(each)) for each in self.announcements.events]


def test_searches_and_numbers_are_forgotten_by_what_they_depend_on() -> None:
    dependant = EntityKey("recording", mbid())
    made = Made(FoundDependant(Reach.CREDITED, 7, dependant))
    pages = FakeLeased()
    made.invalidator = Invalidator(
        entries=made.entries,
        dependants=FakeDependants([], FoundDependant(Reach.CREDITED, 7, dependant)),
        announcements=made.announcements,
        musicbrainz=None,
        tagged=[pages],
    )

    def forgotten(event: dict[str, Any]) -> set[str]:
        pages.log.clear()
        made.invalidator.invalidate([event])
        assert len(pages.log) == 1
        return set(pages.log[0][2])

    own = f"artist:{GID}"
    assert forgotten(changed("artist", 7, GID, change("artist", "edits_pending"))) == {own}
    assert forgotten(changed("artist", 7, GID, change("artist", "name"))) == {own, dependant.name, "found:artist"}
    assert forgotten(changed("artist", 7, GID, change("artist_alias", op="insert"))) == {own, "found:artist"}
    created = changed("artist", 7, GID, change("artist", op="insert"), name="entity.created")
    assert forgotten(created) == {own, "found:artist", "counted:artist"}
    assert {"found:artist", "counted:artist"} < forgotten(merged("artist", (7, mbid()), (8, GID)))
    assert forgotten(truncated("musicbrainz.label", "label")) == {"every:label", "found:label", "counted:label"}


def test_a_change_that_reaches_nobody_asks_no_database() -> None:
    made = Made()
    made.invalidator.invalidate([changed("artist", 7, GID, change("artist", "edits_pending"))])
    assert made.steps == ["forget", "musicbrainz", "publish"]


def test_the_entity_itself_is_forgotten_before_its_dependants_are_looked_for() -> None:
    dependant = EntityKey("recording", mbid())
    made = Made(FoundDependant(Reach.CREDITED, 7, dependant))
    made.invalidator.invalidate([changed("artist", 7, GID, change("artist", "name"))])
    assert made.log[:3] == [
        ("forget", [f"artist:{GID}"], set()),
        ("find", {Reach.CREDITED: [7]}, 100),
        ("forget", [dependant.name], set()),
    ]
    assert made.steps[3:] == ["musicbrainz", "publish"]


def test_500_events_are_as_many_steps_as_one() -> None:
    made = Made()
    made.invalidator.invalidate([changed("artist", n, mbid(), change("artist", "name")) for n in range(500)])
    assert made.steps == ["forget", "find", "musicbrainz", "publish"]
    assert made.log[1][1] == {Reach.CREDITED: list(range(500))}


def test_each_invalidated_mbid_is_announced_once_with_its_cause() -> None:
    old, new, dependant = mbid(), mbid(), EntityKey("release", mbid())
    made = Made(
        FoundDependant(Reach.GROUPED, 2, dependant), FoundDependant(Reach.GROUPED, 2, EntityKey("release_group", new))
    )
    cause = merged("release_group", (1, old), (2, new))
    made.invalidator.invalidate([cause, changed("release_group", 2, new, change("release_group", "name"))])
    events = made.announced()
    assert [each.subject for each in events] == [
        f"release_group/{old}",
        f"release_group/{new}",
        f"release/{dependant.mbid}",
    ]
    assert {each.data["cause"] for each in events} == {cause["id"]}
    assert events[2].data == {"entity_type": "release", "mbid": dependant.mbid, "keys": 0, "cause": cause["id"]}
    assert {each.name for each in events} == {"cache.invalidated"}
    for each in events:
        CacheInvalidated.model_validate(each.data)
    assert {(each.source, each.sequence, each.time) for each in events} == {
        (cause["source"], int(cause["sequence"]), "2026-01-02T00:00:00Z")
    }


def test_done_again_it_announces_the_same_ids() -> None:
    made = Made()
    events = [changed("artist", 7, GID, change("artist", "name")), changed("work", 7, GID, change("work", "name"))]
    made.invalidator.invalidate(events)
    made.invalidator.invalidate(events)
    ids = [each.id for each in made.announced()]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2


def test_too_many_dependants_are_forgotten_by_their_type() -> None:
    few = FoundDependant(Reach.CREDITED, 7, EntityKey("release_group", mbid()))
    made = Made(few, overflowed=("recording",))
    made.invalidator.invalidate([changed("artist", 7, GID, change("artist", "name"))])
    assert made.log[2] == ("forget", [few.key.name], {"every:recording"})
    counts = made.telemetry.counts
    assert counts["mbevents_cache_type_invalidations_total", "recording", "dependant"] == 1
    assert counts["mbevents_cache_invalidations_total", "release_group", "dependant"] == 1
    assert counts["mbevents_cache_invalidations_total", "artist", "own"] == 1


def test_a_truncation_voids_types_and_announces_no_mbid() -> None:
    made = Made()
    made.invalidator.invalidate([truncated("musicbrainz.label", "label")])
    assert made.log == [("forget", [], {"every:label"})]


def test_nonsense_is_told_after_the_others_were_done() -> None:
    made = Made()
    with pytest.raises(InvalidEventsError, match=r"1 of the message's events make no sense \(event 0"):
        made.invalidator.invalidate([{}, changed("artist", 7, GID, change("artist", "edits_pending"))])
    assert made.steps == ["forget", "musicbrainz", "publish"]


def test_nothing_asked_is_nothing_done() -> None:
    made = Made()
    made.invalidator.invalidate([])
    assert made.log == []


def test_without_a_musicbrainz_server_its_keys_are_nobodys() -> None:
    log: list[Any] = []
    invalidator = Invalidator(
        entries=FakeLeased(log),
        dependants=FakeDependants(log),
        announcements=FakeAnnouncements(log),
        musicbrainz=None,
    )
    invalidator.invalidate([changed("artist", 7, GID, change("artist", "edits_pending"))])
    assert [entry[0] for entry in log] == ["forget", "publish"]


class Rows:
    """A database of one table of documents; counts its loads."""

    def __init__(self, **known: Known) -> None:
        self.known = {name.replace("_", "-"): value for name, value in known.items()}
        self.loads: list[str] = []

    def __call__(self, entity_type: str, gid: str) -> Known:
        assert entity_type == "artist"
        self.loads.append(gid)
        return self.known.get(gid)


def test_what_was_loaded_once_is_served_until_it_is_invalidated() -> None:
    cache, rows = entity_cache(FakeLeased()), Rows()
    rows.known[GID] = b'{"name":"old"}'
    assert cache.get_or_load("artist", GID, rows) == b'{"name":"old"}'
    rows.known[GID] = b'{"name":"new"}'
    assert cache.get_or_load("artist", GID, rows) == b'{"name":"old"}'
    assert cache.get("artist", GID) == Cached(b'{"name":"old"}')
    cache.invalidate([EntityKey("artist", GID)])
    assert cache.get("artist", GID) is None
    assert cache.get_or_load("artist", GID, rows) == b'{"name":"new"}'
    assert len(rows.loads) == 2


def test_an_old_mbid_is_a_redirect_and_never_a_copy() -> None:
    cache, rows, old = entity_cache(FakeLeased()), Rows(), mbid()
    rows.known |= {old: Redirect(GID), GID: b"1"}
    assert cache.get_or_load("artist", old, rows) == b"1"
    assert rows.loads == [old, GID]
    rows.known[GID] = b"2"
    # An update names the MBID that the entity has now; nobody tells its old ones.
    cache.invalidate([EntityKey("artist", GID)])
    assert cache.get_or_load("artist", old, rows) == b"2"
    assert cache.get("artist", old) == Cached(b"2")


def test_redirects_that_lead_in_a_circle_end() -> None:
    cache, rows, other = entity_cache(FakeLeased()), Rows(), mbid()
    rows.known |= {other: Redirect(GID), GID: Redirect(other)}
    assert cache.get_or_load("artist", GID, rows) is None
    assert cache.get("artist", GID) is None


def test_what_is_not_there_is_remembered_for_a_short_while() -> None:
    log: list[Any] = []
    cache, rows = entity_cache(FakeLeased(log), ttl=1000, absent_ttl=10), Rows()
    assert cache.get_or_load("artist", GID, rows) is None
    assert cache.get("artist", GID) == Cached(None)
    assert cache.get_or_load("artist", GID, rows) is None
    assert rows.loads == [GID]
    assert 9 <= log[0][2] <= 11


def test_a_creation_ends_the_absence() -> None:
    made, rows = Made(), Rows()
    cache = entity_cache(made.entries)
    assert cache.get_or_load("artist", GID, rows) is None
    rows.known[GID] = b"{}"
    made.invalidator.invalidate([changed("artist", 7, GID, change("artist", op="insert"), name="entity.created")])
    assert cache.get_or_load("artist", GID, rows) == b"{}"


def test_what_was_invalidated_during_its_load_is_not_stored() -> None:
    entries = FakeLeased()
    telemetry = FakeTelemetry()
    cache = entity_cache(entries, telemetry)
    forgets: list[Callable[[], object]] = [
        lambda: cache.invalidate([EntityKey("artist", GID)]),
        lambda: entries.forget(tags=["every:artist"]),
    ]
    for forget in forgets:

        def load(entity_type: str, gid: str, forget: Callable[[], object] = forget) -> bytes:
            forget()
            return b"old"

        assert cache.get_or_load("artist", GID, load) == b"old"
        assert cache.get("artist", GID) is None
    assert telemetry.counts["mbevents_cache_loads_total", "artist", "refused"] == 2


class Dead(FakeLeased):
    """Redis is down for whoever reads or forgets."""

    def read(self, names: Sequence[str]) -> list[Found | None]:
        raise StoreUnavailableError(f"down, no {names}")

    def forget(self, names: Sequence[str] = (), tags: Sequence[str] = ()) -> list[int]:
        raise StoreUnavailableError(f"down, {len(names)} and {len(tags)} are left")


def test_a_dead_cache_is_a_miss_for_readers_and_an_error_for_invalidation() -> None:
    telemetry = FakeTelemetry()
    cache, rows = entity_cache(Dead(), telemetry), Rows()
    rows.known[GID] = b"{}"
    assert cache.get_or_load("artist", GID, rows) == b"{}"
    assert cache.get("artist", GID) is None
    assert telemetry.counts["mbevents_cache_reads_total", "artist", "unavailable"] == 2
    with pytest.raises(StoreUnavailableError):
        cache.invalidate([EntityKey("artist", GID)])


def test_what_is_no_entity_is_refused_before_it_becomes_a_key() -> None:
    cache = entity_cache(FakeLeased())
    with pytest.raises(UsageError, match="no entity type; they are: area, artist"):
        cache.get("editor", GID)
    with pytest.raises(UsageError, match="is no MBID"):
        cache.get("artist", "clock")
    assert cache.get("artist", f" {GID.upper()} ") is None
