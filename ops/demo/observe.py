"""Waits for effects where they show: log, channels, caches and ledger."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson
import psycopg
import redis

from events.channels import event_channel
from events.errors import MbeventsError
from events.log import service as event_log
from events.sql import queries
from ops.demo.effects import Audit, Effect, Expected, Kind, Watch, proven
from ops.settings import RedisRole
from schemas.envelope import short_name
from schemas.values import ENTITY_TYPES
from workers.caches.keys import EntityKey
from workers.caches.service import INVALIDATED

if TYPE_CHECKING:
    from ops.wiring import Runtime

_EVERY_SECONDS = 0.001
_AT_ONCE = 5_000
_WORK = "the ledger's tasks done"


class InterruptedDemoError(MbeventsError):
    """Somebody asked the demo to end."""

    exit_code = 130


class Heard(NamedTuple):
    at: float
    name: str
    subject: str
    sequence: int


class Listener:
    """Hears every event, in a thread, on a connection of its own."""

    def __init__(self, client: "redis.Redis", namespace: str) -> None:
        self._pubsub = client.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.psubscribe(event_channel(namespace, "*"))
        # Until it is subscribed nothing is heard.
        self._pubsub.get_message(timeout=5)
        self._heard: deque[Heard] = deque()
        self.ids: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-listener", daemon=True)
        self._thread.start()

    def take(self) -> list[Heard]:
        """What was heard since the last time."""
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._pubsub.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                message = self._pubsub.get_message(timeout=0.2)
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                # What was missed is found missing by those who wait for it.
                self._stop.wait(0.1)
                continue
            if message is None or message["type"] != "pmessage":
                continue
            at = time.monotonic()
            event = orjson.loads(message["data"])
            name = short_name(event["type"])
            if name != INVALIDATED:
                self.ids[event["id"]] += 1
            self._heard.append(Heard(at, name, event["subject"], int(event["sequence"])))


class Observer:
    """Sees everything at once, in one thread: `begin`, then a change, then `watch`."""

    def __init__(self, parts: "Runtime", connection: "psycopg.Connection[Any]", stop: threading.Event) -> None:
        self._parts = parts
        self._connection = connection
        self._stop = stop
        self._sql = queries("ops.demo", "edits.sql")
        self._namespace = parts.settings.redis_namespace
        self._prefix = f"{parts.prefix(RedisRole.ENTITIES)}:"
        self._entities = parts.client(RedisRole.ENTITIES)
        self._sessions = parts.client(RedisRole.SESSIONS)
        self.listener = Listener(parts.channels, self._namespace)
        self.first = self._began = self._read_to = event_log.head(connection).position
        self._task = self._first_task = self._newest_task()

    def close(self) -> None:
        self.listener.close()

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether it held within the time. Raises InterruptedDemoError."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                return False
            time.sleep(_EVERY_SECONDS)
        return True

    def check(self) -> None:
        if self._stop.is_set():
            raise InterruptedDemoError("Interrupted.")

    def begin(self) -> None:
        """From here on: what was there before is not counted."""
        self._began = self._read_to = event_log.head(self._connection).position
        self._task = self._newest_task()
        self.listener.take()

    def watch(self, expected: Expected, *, since: float, seconds: float) -> list[Effect]:
        """Wait for all effects of a change whose COMMIT returned at `since`, `seconds` at most."""
        deadline = time.monotonic() + seconds
        log = Watch(Kind.LOG, expected.events)
        channel = Watch(Kind.CHANNEL, expected.events)
        cache = Watch(Kind.CACHE, expected.entries)
        theirs = Watch(Kind.MUSICBRAINZ, self._their_keys(expected))
        announced = Watch(Kind.ANNOUNCED, (f"{key.entity_type}/{key.mbid}" for key in expected.entries))
        ledger = Watch(Kind.LEDGER, [_WORK] if expected.entries else [])
        watches: tuple[Watch[Any], ...] = (log, channel, cache, theirs, announced, ledger)
        while time.monotonic() < deadline:
            self.check()
            self._look_at_cache(cache)
            self._look_at_theirs(theirs)
            if not log.done:
                self._look_at_log(log)
            for heard in self.listener.take():
                if heard.sequence > self._began:
                    if heard.name == INVALIDATED:
                        announced.saw([heard.subject], heard.at)
                    else:
                        channel.saw([(heard.name, heard.subject)], heard.at)
            if log.done and not ledger.done and self.tasks_done():
                ledger.saw([_WORK], time.monotonic())
            if all(each.done for each in watches):
                break
            # Looking costs those who work: what takes long is looked at less often.
            time.sleep(min(0.05, max(_EVERY_SECONDS, (time.monotonic() - since) / 50)))
        effects = [effect for each in watches if (effect := each.effect(since)) is not None]
        return [*proven(effects), *self._read_again(expected, since)]

    def present(self, entries: Collection[EntityKey]) -> set[EntityKey]:
        """Which of these are in the cache."""
        keys = list(entries)
        with self._entities.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.exists(f"{self._prefix}{key.name}")
            return {key for key, there in zip(keys, pipe.execute(), strict=True) if there}

    def logged(self) -> int:
        """How many events the log has since `begin`."""
        return event_log.head(self._connection).position - self._began

    def published(self) -> bool:
        """Whether the log grew since `begin`, and all of it reached channels and queues."""
        head = event_log.head(self._connection)
        return head.position > self._began and head.published == head.position

    def task_ids(self) -> list[int]:
        """The work that was caused since `begin`."""
        rows = self._connection.execute(self._sql["task_ids"], {"after": self._task}).fetchall()
        return [task for (task,) in rows]

    def tasks_done(self) -> bool:
        total, done, _ = self._tasks(self._task)
        return total == done > 0

    def audit(self, seconds: float) -> Audit:
        """Compare everything with everything, once nothing is open any more."""
        self.wait(self._all_heard_and_done, seconds)
        events, _, last = self._row("log_of", after=self.first)
        types = {
            short_name(name): number
            for name, number in self._connection.execute(self._sql["types_of"], {"after": self.first}).fetchall()
        }
        ids = self._logged_ids()
        undone, dead = self._row("leftovers")
        return Audit(
            events=types,
            positions=last - self.first,
            unheard=len(ids - self.listener.ids.keys()) + events - len(ids),
            twice=sum(number - 1 for number in self.listener.ids.values()),
            tasks=self._tasks(self._first_task)[0],
            undone=undone,
            dead=dead,
            stale=self._stale(),
        )

    # Looking

    def _look_at_log(self, watch: Watch[tuple[str, str]]) -> None:
        found = event_log.read(self._connection, after=self._read_to, limit=_AT_ONCE)
        if found:
            self._read_to = found[-1].sequence
            watch.saw(((event.name, event.subject) for event in found), time.monotonic())

    def _look_at_cache(self, watch: Watch[EntityKey]) -> None:
        if not watch.done:
            left = list(watch.left)
            # One round trip to know whether any of a bulk's last entries is there still.
            watch.saw(set(left) - self.present(left), time.monotonic())

    def _look_at_theirs(self, watch: Watch[str]) -> None:
        if watch.done:
            return
        seen = []
        for name in watch.left:
            kind, _, key = name.partition(" ")
            there = (self._sessions if kind == "flag" else self._entities).exists(key)
            if bool(there) is (kind == "flag"):
                seen.append(name)
        watch.saw(seen, time.monotonic())

    def _their_keys(self, expected: Expected) -> list[str]:
        """`gone <key>` and `flag <key>`."""
        found = []
        for entity_type, row_id, mbid in expected.theirs:
            prefix = f"{self._namespace}:{entity_type}"
            found += [f"gone {prefix}:{row_id}", f"gone {prefix}:{mbid}"]
            found.append(f"flag {prefix}:recently_invalidated:{row_id}")
        return found

    def _read_again(self, expected: Expected, since: float) -> list[Effect]:
        watch = Watch(Kind.READ, expected.reads)
        for (entity_type, mbid), text in expected.reads.items():
            document = self._parts.entity_cache.get_or_load(entity_type, mbid, self._parts.load_entity)
            if document is not None and text.encode() in document:
                watch.saw([EntityKey(entity_type, mbid)], time.monotonic())
        effect = watch.effect(since)
        return [] if effect is None else [effect]

    # Counting

    def _all_heard_and_done(self) -> bool:
        undone, _ = self._row("leftovers")
        return undone == 0 and self._logged_ids() <= self.listener.ids.keys()

    def _logged_ids(self) -> set[str]:
        rows = self._connection.execute(self._sql["ids_of"], {"after": self.first}).fetchall()
        return {name for (name,) in rows}

    def _stale(self) -> int:
        """Cached documents that are not what the database has now."""
        number = 0
        for name in cast("list[bytes]", list(self._entities.scan_iter(f"{self._prefix}*", count=1_000))):
            parts = name.decode().removeprefix(self._prefix).split(":")
            if len(parts) != 2 or parts[0] not in ENTITY_TYPES:
                continue
            key = EntityKey(*parts)
            cached = self._parts.entity_cache.get(*key)
            number += cached is not None and cached.known != self._parts.load_entity(*key)
        return number

    def _newest_task(self) -> int:
        return int(self._row("newest_task")[0])

    def _tasks(self, after: int) -> tuple[int, int, int]:
        total, done, newest = self._row("tasks", after=after)
        return total, done, newest

    def _row(self, name: str, /, **parameters: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._connection.execute(self._sql[name], parameters or None).fetchone()
        assert row is not None
        return row
