"""Changes in the real tables, told by events, reach every entry that shows them."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from schemas.cache import CacheInvalidated
from schemas.envelope import Event
from schemas.values import ENTITY_TYPES
from tests.unit.workers.caches.making import change, changed, entity_cache, mbid, merged
from workers.caches.adapters import (
    PostgresDependants,
    PostgresEntities,
    RedisAnnouncements,
    RedisMusicBrainz,
)
from workers.caches.core import Reach
from workers.caches.keys import Cached, EntityKey
from workers.caches.service import Invalidator
from workers.leased.adapters import RedisLeased
from workers.leased.core import Loaded

from .conftest import Clients, Database

TRENTEMOLLER = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"
POLAR_MIX = "89b1b3ca-07cd-4f67-b9a7-3a3ba86d7149"
ARTIST_ID = 108703
Trips = Callable[[Callable[[], object]], int]


class Caches:
    """Everything of the sample data, cached as it is now."""

    def __init__(self, clients: Clients, musicbrainz: Database) -> None:
        self.clients = clients
        self.musicbrainz = musicbrainz
        self.cache = entity_cache(RedisLeased(clients.entities, "MB:entity"))
        self.entities = PostgresEntities(musicbrainz.connect)

    def invalidator(self, limit: int = 10_000) -> Invalidator:
        return Invalidator(
            entries=RedisLeased(self.clients.entities, "MB:entity"),
            tagged=[RedisLeased(self.clients.entities, "MB:search")],
            dependants=PostgresDependants(self.musicbrainz.connect),
            announcements=RedisAnnouncements(self.clients.pubsub),
            musicbrainz=RedisMusicBrainz(store=self.clients.store, cache=self.clients.entities),
            fanout_limit=limit,
        )

    def warm(self) -> None:
        for entity_type in ENTITY_TYPES:
            for (gid,) in self.musicbrainz.connection.execute(f"SELECT gid::text FROM {entity_type}").fetchall():
                self.cache.get_or_load(entity_type, gid, self.entities.load)

    def stale(self) -> list[EntityKey]:
        """Entries that are not what the database says."""
        found = []
        for entity_type in ENTITY_TYPES:
            for (gid,) in self.musicbrainz.connection.execute(f"SELECT gid::text FROM {entity_type}").fetchall():
                cached = self.cache.get(entity_type, gid)
                if cached is not None and cached != Cached(self.entities.load(entity_type, gid)):
                    found.append(EntityKey(entity_type, gid))
        return found

    def missing(self) -> set[str]:
        """Entity types of which something is not cached."""
        return {
            entity_type
            for entity_type in ENTITY_TYPES
            for (gid,) in self.musicbrainz.connection.execute(f"SELECT gid::text FROM {entity_type}").fetchall()
            if self.cache.get(entity_type, gid) is None
        }


@pytest.fixture
def caches(clients: Clients, musicbrainz: Database) -> Caches:
    made = Caches(clients, musicbrainz)
    made.warm()
    assert made.stale() == []
    assert made.missing() == set()
    return made


def test_a_renamed_artist_leaves_nothing_stale_that_credits_it(caches: Caches) -> None:
    caches.musicbrainz.connection.execute("UPDATE artist SET name = 'Anders T.' WHERE id = %s", (ARTIST_ID,))
    assert {key.entity_type for key in caches.stale()} == {"artist", "recording", "release", "release_group"}
    caches.invalidator().invalidate([changed("artist", ARTIST_ID, TRENTEMOLLER, change("artist", "name"))])
    assert caches.stale() == []


def test_an_artist_of_a_single_track_reaches_the_release_that_shows_it(caches: Caches) -> None:
    khan = caches.musicbrainz.value("SELECT gid::text FROM artist WHERE id = 42684")
    reached = PostgresDependants(caches.musicbrainz.connect).find({Reach.CREDITED: [42684]}, limit=99)
    assert EntityKey("release", POLAR_MIX) in {each.key for each in reached.found}
    caches.invalidator().invalidate([changed("artist", 42684, khan, change("artist", "comment"))])
    assert caches.cache.get("release", POLAR_MIX) is None


def test_what_does_not_show_the_change_stays_cached(caches: Caches) -> None:
    caches.musicbrainz.connection.execute("UPDATE artist SET comment = 'x' WHERE id = %s", (ARTIST_ID,))
    caches.musicbrainz.statements.clear()
    caches.invalidator().invalidate(
        [changed("artist", ARTIST_ID, TRENTEMOLLER, change("artist", "edits_pending", "last_updated"))]
    )
    assert caches.musicbrainz.statements == []
    assert caches.missing() == {"artist"}


def test_after_a_merge_the_old_mbid_follows_whatever_happens_to_the_new_one(caches: Caches) -> None:
    """As MusicBrainz merges: what the old artist was credited for gets other credits, by changes of its own."""
    connection, khan = (
        caches.musicbrainz.connection,
        caches.musicbrainz.value("SELECT gid::text FROM artist WHERE id = 42684"),
    )
    credit = "(SELECT artist_credit FROM artist_credit_name WHERE artist = {} ORDER BY artist_credit LIMIT 1)"
    moved: dict[str, list[tuple[int, str]]] = {}
    for table in ("recording", "release", "release_group", "track"):
        moved[table] = connection.execute(
            f"UPDATE {table} SET artist_credit = {credit.format(ARTIST_ID)} WHERE artist_credit IN "
            "(SELECT artist_credit FROM artist_credit_name WHERE artist = 42684) RETURNING id, gid::text"
        ).fetchall()
    for statement in (
        "DELETE FROM artist_credit_name WHERE artist = 42684",
        "DELETE FROM artist_alias WHERE artist = 42684",
        "DELETE FROM l_artist_url WHERE entity0 = 42684",
        "DELETE FROM artist WHERE id = 42684",
    ):
        connection.execute(statement)
    connection.execute("INSERT INTO artist_gid_redirect (gid, new_id) VALUES (%s, %s)", (khan, ARTIST_ID))
    events = [merged("artist", (42684, khan), (ARTIST_ID, TRENTEMOLLER))]
    for entity_type in ("recording", "release", "release_group"):
        events += [
            changed(entity_type, row, gid, change(entity_type, "artist_credit")) for row, gid in moved[entity_type]
        ]
    release = caches.musicbrainz.value("SELECT id FROM release WHERE gid = %s", POLAR_MIX)
    events.append(changed("release", release, POLAR_MIX, change("track", "artist_credit")))
    caches.invalidator().invalidate(events)
    assert caches.stale() == []
    assert caches.cache.get("artist", khan) is None

    def shown() -> Any:
        return orjson.loads(caches.cache.get_or_load("artist", khan, caches.entities.load) or b"")

    assert (shown()["gid"], shown()["comment"]) == (TRENTEMOLLER, "")
    connection.execute("UPDATE artist SET comment = 'dk' WHERE id = %s", (ARTIST_ID,))
    caches.invalidator().invalidate([changed("artist", ARTIST_ID, TRENTEMOLLER, change("artist", "comment"))])
    assert shown()["comment"] == "dk"


def test_a_date_of_a_release_reaches_its_group(caches: Caches) -> None:
    release = caches.musicbrainz.value("SELECT id FROM release WHERE gid = %s", POLAR_MIX)
    for table in ("release_country", "release_unknown_country"):
        caches.musicbrainz.connection.execute(f"DELETE FROM {table} WHERE release = %s", (release,))
    caches.musicbrainz.connection.execute(
        "INSERT INTO release_unknown_country (release, date_year) VALUES (%s, 1999)", (release,)
    )
    events = [changed("release", release, POLAR_MIX, change("release_unknown_country", op="insert"))]
    caches.invalidator().invalidate(events)
    assert not {key.entity_type for key in caches.stale()} & {"release", "release_group"}


def test_merged_release_groups_reach_their_releases(caches: Caches) -> None:
    rows = caches.musicbrainz.connection.execute("SELECT id, gid::text FROM release_group ORDER BY id").fetchall()
    (old, old_gid), (new, new_gid) = rows
    caches.musicbrainz.connection.execute("UPDATE release SET release_group = %s WHERE release_group = %s", (new, old))
    assert {key.entity_type for key in caches.stale()} == {"release", "release_group"}
    caches.invalidator().invalidate([merged("release_group", (old, old_gid), (new, new_gid))])
    assert caches.stale() == []


def test_a_medium_that_changed_reaches_the_recordings_on_it(caches: Caches) -> None:
    release = caches.musicbrainz.value("SELECT id FROM release WHERE gid = %s", POLAR_MIX)
    caches.musicbrainz.connection.execute("UPDATE medium SET name = 'Side A' WHERE release = %s", (release,))
    assert len([key for key in caches.stale() if key.entity_type == "recording"]) > 10
    caches.invalidator().invalidate([changed("release", release, POLAR_MIX, change("medium", "name"))])
    assert caches.stale() == []


def test_beyond_the_limit_a_type_is_forgotten_as_a_whole(caches: Caches) -> None:
    loading = EntityKey("recording", mbid())
    leased = RedisLeased(caches.clients.entities, "MB:entity")
    lease = leased.lease(loading.name).lease
    assert lease is not None
    caches.musicbrainz.connection.execute("UPDATE artist SET name = 'Anders T.' WHERE id = %s", (ARTIST_ID,))
    caches.invalidator(limit=3).invalidate([changed("artist", ARTIST_ID, TRENTEMOLLER, change("artist", "name"))])
    assert caches.stale() == []
    assert not leased.store(loading.name, lease, Loaded(b"{}", ("every:recording",)), seconds=9, cost=0)
    forgotten = {
        entity_type: len(
            [
                1
                for (gid,) in caches.musicbrainz.connection.execute(f"SELECT gid::text FROM {entity_type}").fetchall()
                if caches.cache.get(entity_type, gid) is None
            ]
        )
        for entity_type in ("artist", "recording", "release", "release_group", "work")
    }
    recordings = caches.musicbrainz.value("SELECT count(*) FROM recording")
    assert forgotten == {"artist": 1, "recording": recordings, "release": 1, "release_group": 1, "work": 0}


def test_a_translated_release_reaches_the_release_that_it_translates(musicbrainz: Database) -> None:
    """Found by its own credit and by that of one of its tracks; the artist credits nothing else."""
    connection = musicbrainz.connection
    connection.execute("INSERT INTO artist (id, gid, name, sort_name) VALUES (9001, gen_random_uuid(), 'N', 'N')")
    connection.execute(
        "INSERT INTO artist_credit (id, name, artist_count, gid) VALUES (9001, 'N', 1, gen_random_uuid())"
    )
    connection.execute(
        "INSERT INTO artist_credit_name (artist_credit, position, artist, name) VALUES (9001, 0, 9001, 'N')"
    )
    assert PostgresDependants(musicbrainz.connect).find({Reach.CREDITED: [9001]}, limit=9).found == []
    release, medium, track = connection.execute(
        "SELECT r.id, m.id, t.id FROM release r JOIN medium m ON m.release = r.id JOIN track t ON t.medium = m.id "
        "WHERE r.gid = %s LIMIT 1",
        (POLAR_MIX,),
    ).fetchall()[0]
    connection.execute("INSERT INTO alternative_release_type (id, name, gid) VALUES (9, 'T', gen_random_uuid())")
    connection.execute("SET session_replication_role = replica")  # the sample has few languages and scripts
    connection.execute(
        "INSERT INTO alternative_release (id, gid, release, name, type, language, script) "
        "VALUES (9, gen_random_uuid(), %s, 'N', 9, 1, 1)",
        (release,),
    )
    connection.execute("INSERT INTO alternative_medium (id, medium, alternative_release) VALUES (9, %s, 9)", (medium,))
    connection.execute("INSERT INTO alternative_track (id, name, artist_credit) VALUES (9, 'N', 9001)")
    connection.execute("INSERT INTO alternative_medium_track VALUES (9, %s, 9)", (track,))
    found = PostgresDependants(musicbrainz.connect).find({Reach.CREDITED: [9001]}, limit=9).found
    assert [(each.key, each.origin) for each in found] == [(EntityKey("release", POLAR_MIX), 9001)]
    connection.execute("DELETE FROM alternative_medium_track")
    connection.execute("UPDATE alternative_release SET artist_credit = 9001")
    found = PostgresDependants(musicbrainz.connect).find({Reach.CREDITED: [9001]}, limit=9).found
    assert [each.key for each in found] == [EntityKey("release", POLAR_MIX)]


def test_more_than_the_limit_is_told_and_not_fetched(musicbrainz: Database) -> None:
    reached = PostgresDependants(musicbrainz.connect).find({Reach.CREDITED: [ARTIST_ID]}, limit=7)
    assert set(reached.overflowed) == {"recording"}
    assert {each.key.entity_type for each in reached.found} == {"release", "release_group"}


def everything(musicbrainz: Database) -> list[dict[str, Any]]:
    """500 events of every kind that reaches anybody."""
    artists = musicbrainz.connection.execute("SELECT id, gid::text FROM artist").fetchall()
    releases = musicbrainz.connection.execute("SELECT id, gid::text FROM release").fetchall()
    groups = musicbrainz.connection.execute("SELECT id, gid::text FROM release_group").fetchall()
    events = [changed("artist", row, gid, change("artist", "name")) for row, gid in artists]
    events += [changed("release", row, gid, change("medium", "name")) for row, gid in releases]
    events += [changed("release", row, gid, change("release_country", op="delete")) for row, gid in releases]
    events += [merged("release_group", (9000 + row, mbid()), (row, gid)) for row, gid in groups]
    events += [changed("work", n, mbid(), change("work", "name")) for n in range(500 - len(events))]
    return events


def test_500_events_are_one_query_for_each_kind_and_few_round_trips(caches: Caches, round_trips: Trips) -> None:
    caches.invalidator().invalidate(everything(caches.musicbrainz))  # scripts and connections are there from here on
    events, invalidator = everything(caches.musicbrainz), caches.invalidator()
    caches.musicbrainz.statements.clear()
    assert round_trips(lambda: invalidator.invalidate(events)) <= 7
    assert len(events) == 500
    assert len(caches.musicbrainz.statements) == 8
    assert len(set(caches.musicbrainz.statements)) == 8


def test_one_event_is_one_round_trip_until_the_key_is_gone_and_five_in_all(caches: Caches, round_trips: Trips) -> None:
    invalidator = caches.invalidator()
    events = [changed("artist", ARTIST_ID, TRENTEMOLLER, change("artist", "edits_pending"))]
    invalidator.invalidate(events)
    assert round_trips(lambda: invalidator.invalidate(events)) == 5
    caches.musicbrainz.statements.clear()
    artist = EntityKey("artist", TRENTEMOLLER)
    assert round_trips(lambda: caches.cache.invalidate([artist])) == 1
    assert round_trips(lambda: caches.cache.get(*artist)) == 1
    assert round_trips(lambda: caches.cache.get_many("artist", [mbid() for _ in range(100)])) == 1
    assert caches.musicbrainz.statements == []


def test_one_event_takes_less_than_a_few_milliseconds(caches: Caches) -> None:
    """The bar is 1 ms; here is room for a machine that is busy."""
    invalidator, times = caches.invalidator(), []
    for _ in range(200):
        events = [changed("artist", ARTIST_ID, TRENTEMOLLER, change("artist", "edits_pending"))]
        began = time.perf_counter()
        invalidator.invalidate(events)
        times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.005


def test_every_forgotten_mbid_is_told_on_its_channel(caches: Caches) -> None:
    client: Any = caches.clients.pubsub
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("MB:events:cache.invalidated")
    listener.get_message(timeout=5)
    cause = changed("artist", ARTIST_ID, TRENTEMOLLER, change("artist", "name"))
    caches.invalidator().invalidate([cause])
    told: list[Event] = []
    while (message := listener.get_message(timeout=0.2)) is not None:
        told.append(Event.from_dict(orjson.loads(message["data"])))
    listener.close()
    credited = PostgresDependants(caches.musicbrainz.connect).find({Reach.CREDITED: [ARTIST_ID]}, limit=99).found
    assert {each.subject for each in told} == {
        f"artist/{TRENTEMOLLER}",
        *(f"{each.key.entity_type}/{each.key.mbid}" for each in credited),
    }
    assert len(told) == len({each.id for each in told}) >= 11
    payloads = [CacheInvalidated.model_validate(each.data) for each in told]
    assert {(payload.cause, payload.keys) for payload in payloads} == {(cause["id"], 1)}
