"""The order of an invalidation, and who loads what."""

import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from events.errors import UsageError
from schemas.cache import CacheInvalidated
from schemas.envelope import Event
from workers.caches.core import Found, Reach
from workers.caches.keys import Cached, EntityKey, Known, Lease, Redirect
from workers.caches.service import (
    CacheUnavailableError,
    EntityCache,
    Invalidator,
    InvalidEventsError,
)

from .making import (
    FakeAnnouncements,
    FakeDependants,
    FakeEntries,
    FakeMusicBrainz,
    FakeTelemetry,
    change,
    changed,
    mbid,
    merged,
    truncated,
)

GID = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"


class Made:
    """An invalidator over stand-ins that note what happens in one log."""

    def __init__(self, *found: Found, overflowed: tuple[str, ...] = (), limit: int = 100) -> None:
        self.log: list[Any] = []
        self.entries = FakeEntries(self.log)
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


def test_a_change_that_reaches_nobody_asks_no_database() -> None:
    made = Made()
    made.invalidator.invalidate([changed("artist", 7, GID, change("artist", "edits_pending"))])
    assert made.steps == ["forget", "musicbrainz", "publish"]


def test_the_entity_itself_is_forgotten_before_its_dependants_are_looked_for() -> None:
    dependant = EntityKey("recording", mbid())
    made = Made(Found(Reach.CREDITED, 7, dependant))
    made.invalidator.invalidate([changed("artist", 7, GID, change("artist", "name"))])
    assert made.log[:3] == [
        ("forget", [EntityKey("artist", GID)], set()),
        ("find", {Reach.CREDITED: [7]}, 100),
        ("forget", [dependant], set()),
    ]
    assert made.steps[3:] == ["musicbrainz", "publish"]


def test_500_events_are_as_many_steps_as_one() -> None:
    made = Made()
    made.invalidator.invalidate([changed("artist", n, mbid(), change("artist", "name")) for n in range(500)])
    assert made.steps == ["forget", "find", "musicbrainz", "publish"]
    assert made.log[1][1] == {Reach.CREDITED: list(range(500))}


def test_each_invalidated_mbid_is_announced_once_with_its_cause() -> None:
    old, new, dependant = mbid(), mbid(), EntityKey("release", mbid())
    made = Made(Found(Reach.GROUPED, 2, dependant), Found(Reach.GROUPED, 2, EntityKey("release_group", new)))
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
    few = Found(Reach.CREDITED, 7, EntityKey("release_group", mbid()))
    made = Made(few, overflowed=("recording",))
    made.invalidator.invalidate([changed("artist", 7, GID, change("artist", "name"))])
    assert made.log[2] == ("forget", [few.key], {"recording"})
    counts = made.telemetry.counts
    assert counts["mbevents_cache_type_invalidations_total", "recording", "dependant"] == 1
    assert counts["mbevents_cache_invalidations_total", "release_group", "dependant"] == 1
    assert counts["mbevents_cache_invalidations_total", "artist", "own"] == 1


def test_a_truncation_voids_types_and_announces_no_mbid() -> None:
    made = Made()
    made.invalidator.invalidate([truncated("musicbrainz.label", "label")])
    assert made.log == [("forget", [], {"label"})]


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
        entries=FakeEntries(log),
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
    cache, rows = EntityCache(FakeEntries()), Rows()
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
    cache, rows, old = EntityCache(FakeEntries()), Rows(), mbid()
    rows.known |= {old: Redirect(GID), GID: b"1"}
    assert cache.get_or_load("artist", old, rows) == b"1"
    assert rows.loads == [old, GID]
    rows.known[GID] = b"2"
    # An update names the MBID that the entity has now; nobody tells its old ones.
    cache.invalidate([EntityKey("artist", GID)])
    assert cache.get_or_load("artist", old, rows) == b"2"
    assert cache.get("artist", old) == Cached(b"2")


def test_redirects_that_lead_in_a_circle_end() -> None:
    cache, rows, other = EntityCache(FakeEntries()), Rows(), mbid()
    rows.known |= {other: Redirect(GID), GID: Redirect(other)}
    assert cache.get_or_load("artist", GID, rows) is None
    assert cache.get("artist", GID) is None


def test_what_is_not_there_is_remembered_for_a_short_while() -> None:
    log: list[Any] = []
    cache, rows = EntityCache(FakeEntries(log), ttl=1000, absent_ttl=10), Rows()
    assert cache.get_or_load("artist", GID, rows) is None
    assert cache.get("artist", GID) == Cached(None)
    assert cache.get_or_load("artist", GID, rows) is None
    assert rows.loads == [GID]
    assert 9 <= log[0][2] <= 11


def test_a_creation_ends_the_absence() -> None:
    made, rows = Made(), Rows()
    cache = EntityCache(made.entries)
    assert cache.get_or_load("artist", GID, rows) is None
    rows.known[GID] = b"{}"
    made.invalidator.invalidate([changed("artist", 7, GID, change("artist", op="insert"), name="entity.created")])
    assert cache.get_or_load("artist", GID, rows) == b"{}"


def test_times_to_live_differ_by_up_to_a_tenth() -> None:
    log: list[Any] = []
    cache, rows = EntityCache(FakeEntries(log), ttl=1000), Rows()
    for _ in range(200):
        gid = mbid()
        rows.known[gid] = b"{}"
        cache.get_or_load("artist", gid, rows)
    times = [entry[2] for entry in log]
    assert 900 <= min(times) < 950
    assert 1050 < max(times) <= 1100


def test_what_was_invalidated_during_its_load_is_not_stored() -> None:
    entries = FakeEntries()
    telemetry = FakeTelemetry()
    cache = EntityCache(entries, telemetry=telemetry)
    forgets: list[Callable[[], object]] = [
        lambda: cache.invalidate([EntityKey("artist", GID)]),
        lambda: cache.invalidate_types(["artist"]),
    ]
    for forget in forgets:

        def load(entity_type: str, gid: str, forget: Callable[[], object] = forget) -> bytes:
            forget()
            return b"old"

        assert cache.get_or_load("artist", GID, load) == b"old"
        assert cache.get("artist", GID) is None
    assert telemetry.counts["mbevents_cache_loads_total", "artist", "refused"] == 2


def test_a_load_that_fails_leaves_the_next_one_free() -> None:
    cache, rows = EntityCache(FakeEntries()), Rows()
    rows.known[GID] = b"{}"

    def fail(entity_type: str, gid: str) -> Known:
        raise LookupError(gid)

    with pytest.raises(LookupError):
        cache.get_or_load("artist", GID, fail)
    assert cache.get_or_load("artist", GID, rows) == b"{}"
    assert cache.get("artist", GID) == Cached(b"{}")


def test_others_wait_for_the_one_that_loads() -> None:
    cache, loading, finish = EntityCache(FakeEntries(), patience=30), threading.Event(), threading.Event()
    loads: list[str] = []

    def load(entity_type: str, gid: str) -> bytes:
        loads.append(gid)
        loading.set()
        finish.wait(10)
        return b"{}"

    results: list[bytes | None] = []
    readers = [
        threading.Thread(target=lambda: results.append(cache.get_or_load("artist", GID, load))) for _ in range(6)
    ]
    for reader in readers:
        reader.start()
    assert loading.wait(10)
    finish.set()
    for reader in readers:
        reader.join(10)
    assert results == [b"{}"] * 6
    assert loads == [GID]


def test_waiting_has_an_end_and_stores_nothing() -> None:
    entries, rows, now = FakeEntries(), Rows(), [0.0]
    rows.known[GID] = b"{}"
    key = EntityKey("artist", GID)
    lease = entries.lease(key)
    assert isinstance(lease, Lease)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    cache = EntityCache(entries, patience=0.5, sleep=sleep, clock=lambda: now[0])
    assert cache.get_or_load("artist", GID, rows) == b"{}"
    assert 0.5 <= now[0] < 0.6
    assert cache.get("artist", GID) is None
    assert entries.store(key, lease, b"{}", seconds=1)


class Dead(FakeEntries):
    """Redis is down for whoever reads or forgets."""

    def read(self, key: EntityKey) -> Cached | None:
        raise CacheUnavailableError(f"down, no {key.mbid}")

    def forget(self, keys: Sequence[EntityKey], void: Collection[str] = ()) -> list[int]:
        raise CacheUnavailableError(f"down, {len(keys)} and {len(void)} are left")


def test_a_dead_cache_is_a_miss_for_readers_and_an_error_for_invalidation() -> None:
    telemetry = FakeTelemetry()
    cache, rows = EntityCache(Dead(), telemetry=telemetry), Rows()
    rows.known[GID] = b"{}"
    assert cache.get_or_load("artist", GID, rows) == b"{}"
    assert cache.get("artist", GID) is None
    assert telemetry.counts["mbevents_cache_reads_total", "artist", "unavailable"] == 2
    with pytest.raises(CacheUnavailableError):
        cache.invalidate([EntityKey("artist", GID)])


def test_what_is_no_entity_is_refused_before_it_becomes_a_key() -> None:
    cache = EntityCache(FakeEntries())
    with pytest.raises(UsageError, match="no entity type; they are: area, artist"):
        cache.get("editor", GID)
    with pytest.raises(UsageError, match="is no MBID"):
        cache.get("artist", "generation")
    with pytest.raises(UsageError, match="no entity type"):
        cache.invalidate_types(["editor"])
    assert cache.get("artist", f" {GID.upper()} ") is None
