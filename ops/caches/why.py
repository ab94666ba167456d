"""Why the entity cache answers as it does for one MBID. Looks only: it neither loads nor stores, and begins nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson
import psycopg
import redis

from events.errors import UnreachableError
from events.log import service as event_log
from ops import checks
from ops.private import described
from ops.settings import RedisRole
from ops.urls import hidden
from workers.caches.keys import EntityKey, Known, Redirect, decode
from workers.leased.adapters import RedisLeased
from workers.leased.core import Inspected
from workers.leased.service import StoreUnavailableError

if TYPE_CHECKING:
    from ops.wiring import Runtime
    from schemas.envelope import Event

# More would hide which is the newest.
EVENTS = 5
_MOST_STEPS = 8


@dataclass(frozen=True, slots=True)
class Server:
    """The Redis of the entity cache. `run`: the id of its run; `problem`: why it does not answer, else None."""

    address: str
    seconds: float | None = None
    run: str | None = None
    role: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What there is of one MBID. `inspected` is None when Redis does not answer."""

    key: EntityKey
    name: str
    inspected: Inspected | None
    void: str | None

    @property
    def known(self) -> Known:
        """What a reader is told, if the entry is valid."""
        entry = self.inspected and self.inspected.entry
        return decode(entry.body) if entry else None

    @property
    def valid(self) -> bool:
        return self.inspected is not None and self.inspected.entry is not None and self.void is None

    def to_dict(self) -> dict[str, Any]:
        found = self.inspected
        entry = found and found.entry
        return {
            "entity_type": self.key.entity_type,
            "mbid": self.key.mbid,
            "key": self.name,
            "cached": self.valid,
            "void": self.void,
            "is": _kind(self.known) if entry else None,
            "bytes": len(entry.body) if entry and entry.body is not None else None,
            "leads_to": self.known.mbid if isinstance(self.known, Redirect) else None,
            "fresh_seconds": entry.left if entry else None,
            "age_seconds": entry.age if entry else None,
            "load_seconds": entry.cost if entry else None,
            "as_of": found.as_of if found else None,
            "clock": found.number if found else None,
            "epoch": found.epoch if found else None,
            "tags": [{"tag": tag.name, "number": tag.number} for tag in found.tags] if found else [],
            "lease_seconds": found.lease_left if found else None,
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """A valid entry beside the database. `differs`: the members of the document that do; None when it is no document
    on both sides and yet differs."""

    mbid: str
    equal: bool
    database: str
    differs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it; `steps` from the MBID that was asked for to where it leads. `compared` and `events` are None where
    they were not asked for, or (with `problem`) the database does not answer."""

    server: Server
    steps: tuple[Step, ...]
    compared: tuple[Compared, ...] | None
    events: "tuple[Event, ...] | None"
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "redis": self.server,
            "steps": [step.to_dict() for step in self.steps],
            "compared": self.compared,
            "events": None if self.events is None else [event.to_dict() for event in self.events],
            "problem": self.problem,
        }


def explain(runtime: "Runtime", key: EntityKey, *, compare: bool) -> Explanation:
    """Never fails because a server is away: what it could not look at is told as that."""
    with _looking(runtime) as (server, leased):
        steps = tuple(_steps(server, leased, key))
        compared, events, problem = None, None, None
        try:
            with checks.connected(runtime) as connection:
                if compare:
                    compared = tuple(_compare(runtime, server, leased, step) for step in steps if step.valid)
                subjects = [f"{step.key.entity_type}/{step.key.mbid}" for step in steps]
                found = [each for name in subjects for each in event_log.latest(connection, limit=EVENTS, subject=name)]
                events = tuple(sorted(found, key=lambda each: -each.sequence)[:EVENTS])
        except (psycopg.Error, OSError, UnreachableError) as error:
            problem = described(error)
        return Explanation(server, steps, compared, events, problem)


@contextmanager
def _looking(runtime: "Runtime") -> Iterator[tuple[Server, RedisLeased]]:
    """On a connection of its own, so that one that does not answer costs the cache nothing."""
    url = runtime.redis_url(RedisRole.ENTITIES)
    client, began = checks.probe_client(url), monotonic()
    try:
        try:
            run = client.info("server").get("run_id")
            seconds = monotonic() - began
            server = Server(hidden(url), seconds, run, client.info("replication").get("role"))
        except redis.RedisError as error:
            server = Server(hidden(url), problem=described(error))
        yield server, RedisLeased(client, runtime.prefix(RedisRole.ENTITIES))
    finally:
        client.close()


def _steps(server: Server, leased: RedisLeased, key: EntityKey) -> Iterator[Step]:
    for _ in range(_MOST_STEPS):
        step = _step(server, leased, key)
        yield step
        known = step.known
        if not isinstance(known, Redirect):
            return
        key = EntityKey(key.entity_type, known.mbid)


def _step(server: Server, leased: RedisLeased, key: EntityKey) -> Step:
    inspected, void = None, None
    if server.problem is None:
        try:
            inspected = leased.inspect(key.name)
        except StoreUnavailableError:
            return Step(key, leased.entry(key.name), None, None)
        void = inspected.void
        if inspected.entry is not None and server.role != "master":
            void = "this Redis is a replica, which is not read"
    return Step(key, leased.entry(key.name), inspected, void)


def _compare(runtime: "Runtime", server: Server, leased: RedisLeased, step: Step) -> Compared:
    # What is invalidated while we look is no difference; once is enough, as nobody edits one entity without end.
    for again in (True, False):
        truth = runtime.load_entity(*step.key)
        if truth == step.known or not again:
            break
        step = _step(server, leased, step.key)
        if not step.valid:
            break
    told = f"a redirect to {truth.mbid}" if isinstance(truth, Redirect) else _kind(truth)
    if not step.valid or truth == step.known:
        return Compared(step.key.mbid, True, told)
    return Compared(step.key.mbid, False, told, _differing(step.known, truth))


def _differing(cached: Known, truth: Known) -> tuple[str, ...] | None:
    if not isinstance(cached, bytes) or not isinstance(truth, bytes):
        return None
    here, there = orjson.loads(cached), orjson.loads(truth)
    return tuple(sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name)))


def _kind(known: Known) -> str:
    if known is None:
        return "no such entity"
    return "a redirect" if isinstance(known, Redirect) else "a document"
