"""The one list of events: each type's version, payload, and the actors that work on it.

A new event needs a payload in `schemas/`, a line here, and a feature folder with its registration in the wiring.
Producers address actors by these names only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydantic import BaseModel

from events.errors import UsageError
from schemas.artwork import ArtworkChanged, ArtworkMoved, ArtworkRemoved
from schemas.cache import CacheInvalidated
from schemas.edit import EditClosed, EditNoted, EditOpened, EditVoted
from schemas.editor import EditorDeleted, EditorRegistered, EditorUpdated
from schemas.entity import EntityCreated, EntityDeleted, EntityMerged, EntityUpdated
from schemas.envelope import full_type
from schemas.link import LinkAdded, LinkRemoved
from schemas.packet import PacketApplied, PacketPublished
from schemas.table import TableTruncated


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """An actor and its queue. Ledgered work has a row in `mbevents.task` until it is done, whatever a broker loses.

    What may take minutes is `slow`: it has a queue of its own, as other work must not wait for it.
    """

    name: str
    queue: str
    ledgered: bool
    slow: bool = False


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of event; `name` has neither prefix nor version. What is not `logged` is on its channel only."""

    name: str
    version: int
    payload: type[BaseModel]
    actors: tuple[ActorSpec, ...] = ()
    logged: bool = True

    @property
    def full_name(self) -> str:
        """`org.musicbrainz.entity.updated.v1`."""
        return full_type(self.name, self.version)


# Sent by the scheduler, a person or a reader: no event asks for it. What is lost comes again with the next interval.
EXPORT_PACKET = ActorSpec("replication.export", queue="replication", ledgered=False, slow=True)
REFRESH_STATISTICS = ActorSpec("caches.refresh_statistics", queue="statistics", ledgered=False, slow=True)
SCHEDULED = (EXPORT_PACKET, REFRESH_STATISTICS)

INVALIDATE_CACHES = ActorSpec("caches.invalidate", queue="caches", ledgered=True)

END_SESSIONS = ActorSpec("accounts.end_sessions", queue="accounts", ledgered=True)

_CACHED = (INVALIDATE_CACHES,)

EVENT_TYPES: Mapping[str, EventType] = MappingProxyType(
    {
        event.name: event
        for event in (
            EventType("edit.opened", 1, EditOpened),
            EventType("edit.closed", 1, EditClosed),
            EventType("edit.voted", 1, EditVoted),
            EventType("edit.noted", 1, EditNoted),
            EventType("entity.created", 1, EntityCreated, _CACHED),
            EventType("entity.updated", 1, EntityUpdated, _CACHED),
            EventType("entity.deleted", 1, EntityDeleted, _CACHED),
            EventType("entity.merged", 1, EntityMerged, _CACHED),
            EventType("link.added", 1, LinkAdded, _CACHED),
            EventType("link.removed", 1, LinkRemoved, _CACHED),
            EventType("artwork.changed", 1, ArtworkChanged),
            EventType("artwork.moved", 1, ArtworkMoved),
            EventType("artwork.removed", 1, ArtworkRemoved),
            EventType("editor.registered", 1, EditorRegistered),
            EventType("editor.updated", 1, EditorUpdated, (END_SESSIONS,)),
            EventType("editor.deleted", 1, EditorDeleted, (END_SESSIONS,)),
            EventType("packet.published", 1, PacketPublished),
            EventType("packet.applied", 1, PacketApplied),
            EventType("cache.invalidated", 1, CacheInvalidated, logged=False),
            EventType("table.truncated", 1, TableTruncated, _CACHED),
        )
    }
)

ACTORS: Mapping[str, ActorSpec] = MappingProxyType(
    {actor.name: actor for actor in (*(actor for event in EVENT_TYPES.values() for actor in event.actors), *SCHEDULED)}
)

# A worker process has one message of each in its hands at most, and a thread more for it.
SLOW_QUEUES = frozenset(actor.queue for actor in ACTORS.values() if actor.slow)


def event_type(name: str) -> EventType:
    """The type of that name. Raises UsageError."""
    try:
        return EVENT_TYPES[name]
    except KeyError:
        raise UsageError(f"There is no event type {name!r}. There are: {', '.join(EVENT_TYPES)}.") from None


def actors_for(name: str) -> tuple[ActorSpec, ...]:
    """The actors that work on events of that type. Raises UsageError."""
    return event_type(name).actors
