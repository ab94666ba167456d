"""Follows the events by position: what is published says when to look, and the log says what there is."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import orjson
import psycopg

from events.catalogue import EVENT_TYPES, event_type
from events.errors import UsageError
from events.log import service as event_log
from events.pubsub.core import PositionAheadError, reached
from events.pubsub.listening import Listener, Timing
from events.telemetry import Labelled, NoTelemetry, Telemetry
from schemas.envelope import Event

if TYPE_CHECKING:
    import redis

Connect = Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]
Tell = Callable[[str], None]

# Bounds the memory, and how long one look keeps a day of the log from being dropped.
READ_EVENTS = 1_000
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


def follow(
    connect: Connect,
    client: "redis.Redis",
    *,
    namespace: str,
    after: int | None = None,
    types: Sequence[str] | None = None,
    unlogged: bool = False,
    stop: threading.Event | None = None,
    told: Tell = lambda _: None,
    timing: Timing | None = None,
    telemetry: Telemetry | None = None,
    name: str = "follower",
) -> Iterator[Event]:
    """Every event of the log behind `after` (None: behind its end of now), each once, in order, until `stop` is set.

    It goes on from the `sequence` of an event that came: who keeps it with the effects misses nothing over a restart.
    `connect` lends an autocommitting connection for a moment, `client` is of the channels' Redis and does not decode.
    `types` are names as in channels (None: all). `unlogged`: also those that are on channels only, as they are heard:
    they may be forged and get lost, and come after the event that their `sequence` names. `told` hears, in the
    caller's thread, when a server goes away and when it is back; meanwhile it is waited for. `name` labels the metrics.

    It blocks. From asyncio, let a thread have it: `await asyncio.to_thread(next, follower, None)`, and `stop`.

    Raises UsageError, errors of `connect` the first time, PositionAheadError and, at once or when it was too slow,
    PositionLostError.
    """
    names = None if types is None else [event_type(name).name for name in types]
    if after is not None and after < 0:
        raise UsageError(f"Positions begin at 1: events are followed after 0 or a later one, not after {after}.")
    with connect() as connection:
        head = event_log.head(connection).position
    if after is not None and after > head:
        raise PositionAheadError(after, head)
    measured = Labelled(telemetry or NoTelemetry(), follower=name)
    position = head if after is None else after
    follower = _Follower(connect, names, position, stop=stop or threading.Event(), told=told, telemetry=measured)
    return follower.run(client, namespace, unlogged, timing or Timing())


class _Follower:
    def __init__(
        self,
        connect: Connect,
        names: Sequence[str] | None,
        position: int,
        *,
        stop: threading.Event,
        told: Tell,
        telemetry: Telemetry,
    ) -> None:
        self._connect = connect
        self._names = names
        self._position = position
        self._stop = stop
        self._told = told
        self._telemetry = telemetry
        self._note_position()

    def run(self, client: "redis.Redis", namespace: str, unlogged: bool, timing: Timing) -> Iterator[Event]:
        listener = Listener(
            client,
            namespace=namespace,
            names=self._names,
            kept=self._unlogged() if unlogged else (),
            timing=timing,
            stopped=self._stop.is_set,
            telemetry=self._telemetry,
        )
        listener.start()
        heard = 0
        try:
            while not self._stop.is_set():
                listener.woken.clear()
                way, heard = "told" if listener.heard > heard else "caught_up", listener.heard
                # Before the log is read: then what they are about is in it.
                bodies = listener.take()
                yield from self._logged(way)
                yield from filter(None, map(self._checked, bodies))
                while listener.news:
                    self._told(listener.news.popleft())
                listener.woken.wait(timing.poll)
        finally:
            listener.close()

    def _unlogged(self) -> list[str]:
        chosen = EVENT_TYPES if self._names is None else self._names
        return [name for name in chosen if not EVENT_TYPES[name].logged]

    def _logged(self, way: str) -> Iterator[Event]:
        """What the log has behind our position; a message is never believed."""
        while found := self._read():
            head, kept = found
            until = reached(self._position, head, [position for position, _ in kept])
            for position, event in kept[: until - self._position]:
                if self._stop.is_set():
                    return
                self._position = position
                if event is not None:
                    # One by one: what whoever takes them does may take long.
                    self._note_position()
                    self._telemetry.count("mbevents_follower_events_total", way=way)
                    yield event
            self._note_position()
            if until == head:
                return

    def _note_position(self) -> None:
        self._telemetry.gauge("mbevents_follower_position", self._position)

    def _read(self) -> event_log.Window | None:
        """None when it is to stop."""
        pause, away = _FIRST_PAUSE, False
        while not self._stop.is_set():
            try:
                with self._connect() as connection:
                    found = event_log.window(connection, after=self._position, limit=READ_EVENTS, types=self._names)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if not away:
                    self._told(f"PostgreSQL does not answer ({type(error).__name__}): waiting for it.")
                away = True
                self._stop.wait(pause * random.uniform(0.5, 1))
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                if away:
                    self._told(f"PostgreSQL is back: going on after position {self._position}.")
                return found
        return None

    def _checked(self, body: bytes) -> Event | None:
        """None for what is no event of ours: anybody may publish on a channel."""
        try:
            event = Event.from_dict(orjson.loads(body))
            kind = EVENT_TYPES[event.name]
            kind.payload.model_validate(event.data)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        texts = (event.id, event.source, event.subject, event.time)
        honest = not kind.logged and event.type == kind.full_name and all(isinstance(text, str) for text in texts)
        # What it is about was in the log before it was published.
        return event if honest and event.sequence <= self._position else None
