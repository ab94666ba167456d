"""The entity cache, and what makes it forget."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import orjson
import structlog

from events.errors import MbeventsError, UnreachableError, UsageError
from events.telemetry import NoTelemetry, Telemetry
from schemas.envelope import full_type
from schemas.values import ENTITY_TYPES

from .core import Cause, Found, Reach, TheirEntity, bounded, plan
from .keys import Cached, EntityKey, Known, Lease, Redirect, is_mbid

log = structlog.get_logger(__name__)

INVALIDATED = "cache.invalidated"

# An MBID leads to one that leads on when entities were merged while we followed; nothing leads on for long.
_MOST_REDIRECTS = 8

Load = Callable[[str, str], Known]
"""From entity type and MBID to what the database knows of it now: never from a copy that lags."""


class CacheUnavailableError(UnreachableError):
    """The Redis of a cache does not answer. Reading, that is a miss; invalidating, the work is tried again."""


class InvalidEventsError(MbeventsError):
    """Some of a message's events make no sense; what the others asked for was done. No retry would change it."""


class Entries(Protocol):
    """Where entries are. Every method is one round trip, and raises CacheUnavailableError."""

    def read(self, key: EntityKey) -> Cached | None: ...

    def lease(self, key: EntityKey) -> Cached | Lease | None:
        """The entry, or the right to store it, or None: somebody else has it."""
        ...

    def store(self, key: EntityKey, lease: Lease, known: Known, *, seconds: float) -> bool:
        """False when the lease is void: what was loaded may be old."""
        ...

    def give_back(self, key: EntityKey, lease: Lease) -> None: ...

    def forget(self, keys: Sequence[EntityKey], void: Collection[str] = ()) -> list[int]:
        """Entries and leases of these keys, and of all of the entity types in `void`. Works when Redis is full.

        Returns how many entries each key had (0 or 1). More than a few hundred keys are more round trips.
        """
        ...


class MusicBrainzKeys(Protocol):
    """MusicBrainz Server's own cache, which we only ever delete from."""

    def invalidate(self, entities: Collection[TheirEntity]) -> None: ...


class Reached(NamedTuple):
    """Dependants; `overflowed`: entity types of which there are more than were asked for."""

    found: Sequence[Found]
    overflowed: Collection[str]


class Dependants(Protocol):
    """Who shows something of whom, as the database is now; one query for each way and kind, whatever the ids."""

    def find(self, reach: Mapping[Reach, Collection[int]], *, limit: int) -> Reached: ...


class Announcements(Protocol):
    """The channel of `cache.invalidated`."""

    def publish(self, events: Sequence[bytes]) -> None: ...


class EntityCache:
    """Documents of entities by MBID, never older than the last invalidation.

    `ttl` and `absent_ttl` (of MBIDs that lead nowhere) in seconds, each ±10 %, so that what was stored together does
    not expire together. `patience`: seconds to wait for somebody else's load before loading without storing.
    """

    def __init__(
        self,
        entries: Entries,
        *,
        ttl: float = 3600,
        absent_ttl: float = 45,
        patience: float = 0.5,
        telemetry: Telemetry | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries = entries
        self._ttl = ttl
        self._absent_ttl = absent_ttl
        self._patience = patience
        self._telemetry = telemetry or NoTelemetry()
        self._sleep = sleep
        self._clock = clock

    def get(self, entity_type: str, mbid: str) -> Cached | None:
        """What is cached, old MBIDs followed; `Cached(None)` is "no such entity", None is a miss (or a dead Redis)."""
        key = entity_key(entity_type, mbid)
        for _ in range(_MOST_REDIRECTS):
            cached = self._read(key)
            if cached is None or not isinstance(cached.known, Redirect):
                return cached
            key = EntityKey(entity_type, cached.known.mbid)
        return None

    def get_or_load(self, entity_type: str, mbid: str, load: Load) -> bytes | None:
        """The document, old MBIDs followed; None when there is no such entity.

        On a miss one caller loads and stores, others wait for it. Errors of `load` are the caller's.
        """
        key = entity_key(entity_type, mbid)
        for _ in range(_MOST_REDIRECTS):
            cached = self._read(key)
            known = cached.known if cached is not None else self._load(key, load)
            if not isinstance(known, Redirect):
                return known
            key = EntityKey(entity_type, known.mbid)
        log.warning("redirects_without_end", entity_type=entity_type, mbid=mbid)
        return None

    def invalidate(self, keys: Iterable[EntityKey]) -> int:
        """Forget these; how many were there. Raises CacheUnavailableError when that is not certain."""
        return sum(self._entries.forget([entity_key(*key) for key in keys]))

    def invalidate_types(self, entity_types: Iterable[str]) -> None:
        """Forget every entry of these types, in one step whatever their number."""
        self._entries.forget([], [_known_type(each) for each in entity_types])

    def _read(self, key: EntityKey) -> Cached | None:
        try:
            cached = self._entries.read(key)
        except CacheUnavailableError:
            self._count("mbevents_cache_reads_total", key, "unavailable")
            return None
        outcome = "miss" if cached is None else "absent" if cached.known is None else "hit"
        self._count("mbevents_cache_reads_total", key, outcome)
        return cached

    def _load(self, key: EntityKey, load: Load) -> Known:
        try:
            lease = self._lease(key)
        except CacheUnavailableError:
            lease = None
        if isinstance(lease, Cached):
            self._count("mbevents_cache_loads_total", key, "shared")
            return lease.known
        try:
            known = load(*key)
        except BaseException:
            if lease is not None:
                self._give_back(key, lease)
            raise
        stored = lease is not None and self._store(key, lease, known)
        outcome = "unleased" if lease is None else "stored" if stored else "refused"
        self._count("mbevents_cache_loads_total", key, outcome)
        return known

    def _lease(self, key: EntityKey) -> Cached | Lease | None:
        give_up, pause = self._clock() + self._patience, 0.002
        while True:
            lease = self._entries.lease(key)
            if lease is not None or self._clock() >= give_up:
                return lease
            self._sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 0.03)

    def _store(self, key: EntityKey, lease: Lease, known: Known) -> bool:
        ttl = self._absent_ttl if known is None else self._ttl
        try:
            return self._entries.store(key, lease, known, seconds=ttl * random.uniform(0.9, 1.1))
        except CacheUnavailableError:
            return False

    def _give_back(self, key: EntityKey, lease: Lease) -> None:
        try:
            self._entries.give_back(key, lease)
        except CacheUnavailableError:
            log.warning("lease_not_given_back", entity_type=key.entity_type, mbid=key.mbid)

    def _count(self, name: str, key: EntityKey, outcome: str) -> None:
        self._telemetry.count(name, 1, entity_type=key.entity_type, outcome=outcome)


class Invalidator:
    """Makes caches forget what events changed, and tells it.

    `musicbrainz` None: there is no MusicBrainz Server beside us. `fanout_limit`: most dependants of one message that
    are forgotten one by one; beyond it their whole type is, in one step, and told by a log line and a metric only.
    """

    def __init__(
        self,
        *,
        entries: Entries,
        dependants: Dependants,
        announcements: Announcements,
        musicbrainz: MusicBrainzKeys | None,
        fanout_limit: int = 10_000,
        telemetry: Telemetry | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._entries = entries
        self._dependants = dependants
        self._announcements = announcements
        self._musicbrainz = musicbrainz
        self._fanout_limit = fanout_limit
        self._telemetry = telemetry or NoTelemetry()
        self._now = now

    def invalidate(self, events: Iterable[Any]) -> None:
        """Do what CloudEvents (dictionaries) ask for. Idempotent; any error leaves it to be done again.

        Raises InvalidEventsError for those that make no sense, after doing what the others ask for.
        """
        began = time.perf_counter()
        asked = plan(events)
        # Before anything is looked up: who asks for the entity itself must not wait for its dependants.
        forgotten = self._forget(asked.own, asked.void, "own")
        if asked.reach:
            forgotten += self._forget_dependants(asked.reach, asked.own)
        if self._musicbrainz is not None and asked.theirs:
            self._musicbrainz.invalidate(asked.theirs)
        if forgotten:
            now = self._now().isoformat().replace("+00:00", "Z")
            self._announcements.publish([_announcement(each, now) for each in forgotten])
        self._telemetry.observe("mbevents_cache_invalidation_seconds", time.perf_counter() - began)
        if asked.problems:
            raise InvalidEventsError(
                f"{len(asked.problems)} of the message's events make no sense ({asked.told()}); the others are done. "
                "Look where they come from; then discard the message, or retry it with a release that knows them."
            )

    def _forget_dependants(
        self, reach: Mapping[Reach, Mapping[int, Cause]], done: Collection[EntityKey]
    ) -> list["_Forgotten"]:
        reached = self._dependants.find(reach, limit=self._fanout_limit)
        causes: dict[str, dict[EntityKey, Cause]] = defaultdict(dict)
        for way, origin, key in reached.found:
            if key not in done:
                causes[key.entity_type].setdefault(key, reach[way][origin])
        keys, void = bounded(causes, reached.overflowed, self._fanout_limit)
        if void:
            log.warning("cache_fanout_overflowed", entity_types=void, limit=self._fanout_limit)
        return self._forget({key: causes[key.entity_type][key] for key in keys}, void, "dependant")

    def _forget(self, keys: Mapping[EntityKey, Cause], void: Collection[str], reason: str) -> list["_Forgotten"]:
        if not keys and not void:
            return []
        were_there = self._entries.forget(list(keys), void)
        for entity_type, number in Counter(key.entity_type for key in keys).items():
            self._telemetry.count("mbevents_cache_invalidations_total", number, entity_type=entity_type, reason=reason)
        for entity_type in void:
            self._telemetry.count("mbevents_cache_type_invalidations_total", 1, entity_type=entity_type, reason=reason)
        return [_Forgotten(key, cause, number) for (key, cause), number in zip(keys.items(), were_there, strict=True)]


class _Forgotten(NamedTuple):
    key: EntityKey
    cause: Cause
    keys: int


def entity_key(entity_type: str, mbid: str) -> EntityKey:
    """Checked, in the form that the database has. Raises UsageError."""
    lower = mbid.strip().lower()
    if not is_mbid(lower):
        raise UsageError(f"{mbid!r:.60} is no MBID; one looks like 95e9aba6-f85c-48a0-9ec9-395d4f0e3875.")
    return EntityKey(_known_type(entity_type), lower)


def _known_type(entity_type: str) -> str:
    if entity_type not in ENTITY_TYPES:
        raise UsageError(f"{entity_type!r:.60} is no entity type; they are: {', '.join(ENTITY_TYPES)}.")
    return entity_type


def _announcement(forgotten: _Forgotten, now: str) -> bytes:
    """A CloudEvent. It is in no log: `sequence` is its cause's, so that who reads both can order them."""
    (entity_type, mbid), cause, keys = forgotten
    subject = f"{entity_type}/{mbid}"
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": blake2b(f"{cause.id}|{INVALIDATED}|{subject}".encode(), digest_size=16).hexdigest(),
            "type": full_type(INVALIDATED),
            "source": cause.source,
            "subject": subject,
            "time": now,
            "datacontenttype": "application/json",
            "sequence": cause.sequence,
            "data": {"entity_type": entity_type, "mbid": mbid, "keys": keys, "cause": cause.id},
        }
    )
