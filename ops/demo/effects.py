"""What an edit is to cause, what was seen of it and when, and the sum of it all. Pure."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median
from typing import Any, Generic, TypeVar

from workers.caches.core import TheirEntity
from workers.caches.keys import EntityKey

T = TypeVar("T", bound=Hashable)
# What is told of the effects that were not seen, and for each of these.
_MISSING_TOLD = 5


class Kind(StrEnum):
    """The stations of a change, in their order."""

    LOG = "log"
    """Its events are in the log."""
    CHANNEL = "channel"
    """Who listens on pub/sub heard them."""
    CACHE = "cache"
    """What was cached of the entity, and of those that show something of it, is gone."""
    MUSICBRAINZ = "musicbrainz"
    """MusicBrainz Server's own keys are flagged and deleted."""
    ANNOUNCED = "announced"
    """`cache.invalidated` was heard for each."""
    LEDGER = "ledger"
    """Every task of the ledger that it caused is done."""
    READ = "read"
    """The next reader gets what is in the database now."""
    PACKET = "packet"
    """The mirror has applied the packet."""
    MIRROR = "mirror"
    """The row of the mirror is as the edit left it."""
    MIRROR_LOG = "mirror_log"
    """Its events are in the mirror's own log."""
    MIRROR_CHANNEL = "mirror_channel"
    """Who listens on the mirror's pub/sub heard them."""
    EQUAL = "equal"
    """Master and mirror hold the same rows, by digests of every table."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one transaction is to cause.

    `events`: names and subjects; `entries`: what goes from the entity cache; `theirs`: entities of which MusicBrainz
    Server's keys go; `reads`: a text that each document must have when it is read again.
    """

    events: frozenset[tuple[str, str]]
    entries: frozenset[EntityKey] = frozenset()
    theirs: frozenset[TheirEntity] = frozenset()
    reads: Mapping[EntityKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effect:
    """One station of one change: `ms` from the return of COMMIT until all of it was seen, None if it never was."""

    kind: Kind
    wanted: int
    ms: float | None
    missing: tuple[str, ...] = ()

    @property
    def seen(self) -> bool:
        return not self.missing


class Watch(Generic[T]):
    """Waits for all of some things to be seen; `at` are seconds of one clock."""

    def __init__(self, kind: Kind, wanted: Iterable[T]) -> None:
        self.kind = kind
        self.left = set(wanted)
        self._wanted = len(self.left)
        self._at = float("-inf")

    @property
    def done(self) -> bool:
        return not self.left

    def saw(self, items: Iterable[T], at: float) -> None:
        """What is not waited for, or was seen before, is ignored."""
        before = len(self.left)
        self.left.difference_update(items)
        if len(self.left) < before:
            self._at = max(self._at, at)

    def effect(self, since: float) -> Effect | None:
        """None when there was nothing to wait for."""
        if not self._wanted:
            return None
        missing = tuple(sorted(_named(each) for each in self.left))
        return Effect(self.kind, self._wanted, None if missing else max(0.0, (self._at - since) * 1000), missing)


def proven(effects: Sequence[Effect]) -> list[Effect]:
    """What was seen late was there at the latest when a later station was seen: the events of one transaction are
    written to the log in one, everything comes from the log, and an invalidation is announced when it is done."""
    later = {
        Kind.LOG: (Kind.CHANNEL, Kind.CACHE, Kind.ANNOUNCED),
        Kind.CACHE: (Kind.ANNOUNCED,),
        Kind.MUSICBRAINZ: (Kind.ANNOUNCED,),
    }
    at = {effect.kind: effect.ms for effect in effects if effect.ms is not None}

    def bound(effect: Effect) -> Effect:
        proofs = [at[kind] for kind in later.get(effect.kind, ()) if kind in at]
        return effect if effect.ms is None else replace(effect, ms=min([effect.ms, *proofs]))

    return [bound(effect) for effect in effects]


def _named(item: object) -> str:
    return " ".join(map(str, item)) if isinstance(item, tuple) else str(item)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. `rows`: row changes captured; `events`: written to the log; `fault`: what was broken,
    and then `recovery` are the seconds from that to the last effect."""

    name: str
    title: str
    rows: int
    events: int
    effects: tuple[Effect, ...]
    notes: tuple[str, ...] = ()
    fault: str | None = None
    recovery: float | None = None
    bulk: bool = False

    @property
    def ok(self) -> bool:
        return all(effect.seen for effect in self.effects)

    def ms(self, kind: Kind) -> float | None:
        return next((effect.ms for effect in self.effects if effect.kind is kind), None)


@dataclass(frozen=True, slots=True)
class Audit:
    """The whole log of the story beside what was heard, the ledger and the dead letters."""

    events: Mapping[str, int]
    """How many of each type are in the log."""
    positions: int
    """Positions that the log gave out: as many as events, or there are gaps."""
    unheard: int
    twice: int
    """Heard more than once: publishing is at least once."""
    tasks: int
    undone: int
    dead: int
    stale: int
    """Cached documents that differ from the database."""

    @property
    def total(self) -> int:
        return sum(self.events.values())

    @property
    def lost(self) -> int:
        return abs(self.positions - self.total) + self.unheard + self.undone + self.dead


def latencies(steps: Iterable[Step]) -> dict[str, dict[str, float]]:
    """By station: how many single edits, median and maximum in milliseconds; faults and bulk are not in it."""
    single = [step for step in steps if step.fault is None and not step.bulk]
    found: dict[str, dict[str, float]] = {}
    for kind in Kind:
        times = [ms for step in single if (ms := step.ms(kind)) is not None]
        if times and kind not in (Kind.READ, Kind.EQUAL):
            found[kind.value] = {"n": len(times), "p50_ms": round(median(times), 2), "max_ms": round(max(times), 2)}
    return found


def missing(steps: Iterable[Step], audit: Audit | None) -> list[str]:
    """Everything that should have been seen and was not, named."""
    found = []
    for step in steps:
        for effect in step.effects:
            if effect.seen:
                continue
            more = len(effect.missing) - _MISSING_TOLD
            named = ", ".join(effect.missing[:_MISSING_TOLD]) + (f" and {more} more" if more > 0 else "")
            found.append(f"{step.name}: {effect.kind.value}: {named}")
    if audit is not None:
        counts = {
            "positions of the log without an event": abs(audit.positions - audit.total),
            "events that nobody heard": audit.unheard,
            "tasks that are not done": audit.undone,
            "dead letters": audit.dead,
            "cached documents that are stale": audit.stale,
        }
        found += [f"audit: {number} {what}" for what, number in counts.items() if number]
    return found


def summary(steps: Sequence[Step], audit: Audit | None, *, seconds: float) -> dict[str, Any]:
    """The story as one object. It is `ok` only when everything was seen."""
    unseen = missing(steps, audit)
    return {
        "ok": audit is not None and not unseen,
        "seconds": round(seconds, 1),
        "steps": [_step(step) for step in steps],
        "latency": latencies(steps),
        "recovery_seconds": {step.name: round(step.recovery, 2) for step in steps if step.recovery is not None},
        "rows": sum(step.rows for step in steps),
        "events": dict(audit.events) if audit else {},
        "events_total": audit.total if audit else 0,
        "heard_twice": audit.twice if audit else 0,
        "tasks": audit.tasks if audit else 0,
        "lost": audit.lost if audit else None,
        "missing": unseen,
    }


def _step(step: Step) -> dict[str, Any]:
    effects = {
        effect.kind.value: {"seen": effect.seen, "number": effect.wanted}
        | ({} if effect.ms is None else {"ms": round(effect.ms, 2)})
        for effect in step.effects
    }
    told: dict[str, Any] = {"name": step.name, "title": step.title, "rows": step.rows, "events": step.events}
    return told | ({} if step.fault is None else {"fault": step.fault}) | {"effects": effects}
