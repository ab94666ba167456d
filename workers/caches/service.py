"""The entity cache, and what makes it forget."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import orjson
import structlog

from events.errors import UsageError
from events.telemetry import NoTelemetry, Telemetry
from schemas.envelope import full_type
from schemas.values import ENTITY_TYPES
from workers.leased.core import Loaded
from workers.leased.service import Leased, ReadThrough
from workers.nonsense import refuse

from . import tags
from .core import Cause, Found, Reach, TheirEntity, bounded, plan
from .keys import Cached, EntityKey, Known, Redirect, decode, encode, is_mbid

log = structlog.get_logger(__name__)

INVALIDATED = "cache.invalidated"

# An MBID leads to one that leads on when entities were merged while we followed; nothing leads on for long.
_MOST_REDIRECTS = 8

Load = Callable[[str, str], Known]
"""From entity type and MBID to what the database knows of it now: never from a copy that lags."""


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
    """Documents of entities by MBID, never older than the last invalidation. Each is tagged with its entity type."""

    def __init__(self, cache: ReadThrough) -> None:
        self._cache = cache

    def get(self, entity_type: str, mbid: str) -> Cached | None:
        """What is cached, old MBIDs followed; `Cached(None)` is "no such entity", None is a miss (or a dead Redis)."""
        return self.get_many(entity_type, [mbid])[0]

    def get_many(self, entity_type: str, mbids: Sequence[str]) -> list[Cached | None]:
        """As `get`, for many in one round trip, and one more for each step of redirects. Raises UsageError."""
        keys = [entity_key(entity_type, mbid) for mbid in mbids]
        answers: list[Cached | None] = [None] * len(keys)
        asked = list(range(len(keys)))
        for _ in range(_MOST_REDIRECTS):
            found = self._cache.get_many([keys[index].name for index in asked], kind=entity_type)
            followed = []
            for index, each in zip(asked, found, strict=True):
                known = decode(each.body) if each is not None else None
                if isinstance(known, Redirect):
                    keys[index] = EntityKey(entity_type, known.mbid)
                    followed.append(index)
                elif each is not None:
                    answers[index] = Cached(known)
            asked = followed
            if not asked:
                break
        return answers

    def get_or_load(self, entity_type: str, mbid: str, load: Load) -> bytes | None:
        """The document, old MBIDs followed; None when there is no such entity.

        On a miss one caller loads and stores, others wait for it. Errors of `load` are the caller's.
        """
        asked = mbid
        for _ in range(_MOST_REDIRECTS):
            known = self.known(entity_type, asked, load)
            if not isinstance(known, Redirect):
                return known
            asked = known.mbid
        log.warning("redirects_without_end", entity_type=entity_type, mbid=mbid)
        return None

    def known(self, entity_type: str, mbid: str, load: Load) -> Known:
        """As `get_or_load`, of this very MBID: an old one is told as the Redirect that it is."""
        key = entity_key(entity_type, mbid)
        return decode(self._cache.get_or_load(key.name, partial(_loaded, load, key), kind=entity_type))

    def invalidate(self, keys: Iterable[EntityKey]) -> int:
        """Forget these; how many were there. Raises StoreUnavailableError when that is not certain."""
        return sum(self._cache.forget([entity_key(*key).name for key in keys]))


def _loaded(load: Load, key: EntityKey) -> Loaded:
    return Loaded(encode(load(*key)), (tags.every(key.entity_type),))


class Invalidator:
    """Makes caches forget what events changed, and tells it.

    `tagged`: caches of pages, searches and numbers, which are forgotten by what they depend on (`workers.caches.tags`).
    `musicbrainz` None: there is no MusicBrainz Server beside us. `fanout_limit`: most dependants of one message that
    are forgotten one by one; beyond it their whole type is, in one step, and told by a log line and a metric only.
    """

    def __init__(
        self,
        *,
        entries: Leased,
        dependants: Dependants,
        announcements: Announcements,
        musicbrainz: MusicBrainzKeys | None,
        tagged: Sequence[Leased] = (),
        fanout_limit: int = 10_000,
        telemetry: Telemetry | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._entries = entries
        self._dependants = dependants
        self._announcements = announcements
        self._musicbrainz = musicbrainz
        self._tagged = tagged
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
        depend = [*asked.tags, *_tags_of(asked.own, asked.void)]
        if asked.reach:
            keys, void = self._dependants_of(asked.reach, asked.own)
            forgotten += self._forget(keys, void, "dependant")
            depend += _tags_of(keys, void)
        if self._musicbrainz is not None and asked.theirs:
            self._musicbrainz.invalidate(asked.theirs)
        # Last, as these are the least, and each may have a Redis of its own that is away.
        for cache in self._tagged if depend else ():
            cache.forget(tags=depend)
        if forgotten:
            now = self._now().isoformat().replace("+00:00", "Z")
            self._announcements.publish([_announcement(each, now) for each in forgotten])
        self._telemetry.observe("mbevents_cache_invalidation_seconds", time.perf_counter() - began)
        refuse(asked.problems)

    def _dependants_of(
        self, reach: Mapping[Reach, Mapping[int, Cause]], done: Collection[EntityKey]
    ) -> tuple[Mapping[EntityKey, Cause], Collection[str]]:
        reached = self._dependants.find(reach, limit=self._fanout_limit)
        causes: dict[str, dict[EntityKey, Cause]] = defaultdict(dict)
        for way, origin, key in reached.found:
            if key not in done:
                causes[key.entity_type].setdefault(key, reach[way][origin])
        keys, void = bounded(causes, reached.overflowed, self._fanout_limit)
        if void:
            log.warning("cache_fanout_overflowed", entity_types=void, limit=self._fanout_limit)
        return {key: causes[key.entity_type][key] for key in keys}, void

    def _forget(self, keys: Mapping[EntityKey, Cause], void: Collection[str], reason: str) -> list["_Forgotten"]:
        if not keys and not void:
            return []
        were_there = self._entries.forget([key.name for key in keys], [tags.every(each) for each in void])
        for entity_type, number in Counter(key.entity_type for key in keys).items():
            self._telemetry.count("mbevents_cache_invalidations_total", number, entity_type=entity_type, reason=reason)
        for entity_type in void:
            self._telemetry.count("mbevents_cache_type_invalidations_total", 1, entity_type=entity_type, reason=reason)
        return [_Forgotten(key, cause, number) for (key, cause), number in zip(keys.items(), were_there, strict=True)]


def _tags_of(keys: Iterable[EntityKey], void: Iterable[str]) -> list[str]:
    return [*(key.name for key in keys), *(tag for each in void for tag in tags.all_of(each))]


class _Forgotten(NamedTuple):
    key: EntityKey
    cause: Cause
    keys: int


def entity_key(entity_type: str, mbid: str) -> EntityKey:
    """Checked, in the form that the database has. Raises UsageError."""
    lower = mbid.strip().lower()
    if not is_mbid(lower):
        raise UsageError(f"{mbid!r:.60} is no MBID; one looks like 95e9aba6-f85c-48a0-9ec9-395d4f0e3875.")
    return EntityKey(known_type(entity_type), lower)


def known_type(entity_type: str) -> str:
    """The type itself. Raises UsageError."""
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
