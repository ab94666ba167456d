"""Brings what is in the log to the channels and queues, in order; what could not be brought is read again later."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import psycopg
import structlog

from events import catalogue
from events.errors import UnreachableError
from events.ledger.collecting import BLOCK, Work
from events.log import service as event_log
from events.log.service import Logged
from events.sql import queries
from events.telemetry import Telemetry
from producers.bridge.ticker import Ticked

log = structlog.get_logger(__name__)

READ_EVENTS = 5_000
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


class PublishFailedError(UnreachableError):
    """The channels or queues cannot be reached; what was to be published stays in the log until they can."""


class Publisher(Protocol):
    """Where events go. Raises PublishFailedError; what was published before that may be published again."""

    def publish(self, events: Sequence[Logged], work: Sequence[tuple[Work, list[bytes]]]) -> None:
        """`work` comes with the bodies of its events. Queues first: effects matter more than who looks on."""


class Publishing:
    """Keeps `mbevents.head.published`. Works on the bridge's connection, outside of its transactions."""

    def __init__(
        self,
        connection: "psycopg.Connection[Any]",
        publisher: Publisher,
        telemetry: Telemetry,
        *,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._alive = alive
        self._connection = connection
        self._publisher = publisher
        self._telemetry = telemetry
        self._published = event_log.head(connection).published
        self._retry_at = 0.0
        self._pause = 0.0
        # Until the first look nobody knows what an earlier bridge left.
        self.behind = True

    def ticked(self, ticked: Ticked) -> None:
        """Publish what was just committed, or leave it to `catch_up`."""
        if ticked.last < ticked.first:
            return
        if self.behind or ticked.events is None:
            self.behind = True
            self.catch_up()
            return
        bodies = {event.position: event.body for event in ticked.events}
        work = [(each, [bodies[position] for position in each.positions]) for each in ticked.work]
        self.behind = not self._try(ticked.events, work)

    def catch_up(self) -> bool:
        """Publish what the log has and nobody published: what an earlier bridge left, or a packet's events.

        False while the servers cannot be reached; then it is tried again at the next call that comes late enough.
        """
        if time.monotonic() < self._retry_at:
            return False
        head = event_log.head(self._connection)
        if head.published >= head.position:
            self.behind = False
            return True
        # A restored database may tell of less than was published.
        self._published = head.published
        tasks = [
            Work(*row)
            for row in self._connection.execute(
                queries("producers.bridge")["open_tasks"], {"published": head.published}
            ).fetchall()
        ]
        log.info("publishing_from_the_log", events=head.position - head.published, tasks=len(tasks))
        held: dict[int, bytes] = {}
        while self._published < head.position:
            events = list(event_log.encoded(event_log.read(self._connection, after=self._published, limit=READ_EVENTS)))
            if not events:
                # Retention dropped them, or a head without its events: there is nothing more to publish.
                log.error("events_missing_from_the_log", after=self._published, position=head.position)
                self._mark(head.position)
                break
            held.update((event.position, event.body) for event in events)
            last = events[-1].position
            due = [work for work in tasks if work.positions[-1] <= last]
            tasks = tasks[len(due) :]
            if not self._try(events, [*self._with_bodies(due, held), *_unledgered(events)]):
                return False
            needed = min((work.positions[0] for work in tasks), default=last + 1)
            held = {position: body for position, body in held.items() if position >= needed}
        self.behind = False
        return True

    def _with_bodies(self, work: Sequence[Work], held: dict[int, bytes]) -> list[tuple[Work, list[bytes]]]:
        # A part of a task's events may have been published before the crash, and be needed for its message again.
        missing = [position for each in work for position in each.positions if position not in held]
        if missing:
            held.update((e.position, e.body) for e in event_log.encoded(event_log.at(self._connection, missing)))
        return [(each, [held[position] for position in each.positions if position in held]) for each in work]

    def _try(self, events: Sequence[Logged], work: Sequence[tuple[Work, list[bytes]]]) -> bool:
        self._alive()
        try:
            self._publisher.publish(events, [each for each in work if each[1]])
        except PublishFailedError as error:
            self._pause = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
            self._retry_at = time.monotonic() + self._pause
            log.warning("publish_failed", error=str(error), again_in_seconds=self._pause)
            return False
        self._pause = self._retry_at = 0.0
        self._alive()
        self._mark(events[-1].position)
        return True

    def _mark(self, position: int) -> None:
        event_log.mark_published(self._connection, position)
        self._published = position
        self._telemetry.gauge("mbevents_published_position", position)


def _unledgered(events: Sequence[Logged]) -> list[tuple[Work, list[bytes]]]:
    """Work that stands in no ledger is made from the events themselves."""
    by_actor: dict[catalogue.ActorSpec, list[Logged]] = {}
    for event in events:
        for actor in catalogue.actors_for(event.name):
            if not actor.ledgered:
                by_actor.setdefault(actor, []).append(event)
    return [
        (Work(None, actor.queue, actor.name, [e.position for e in part]), [e.body for e in part])
        for actor, chosen in by_actor.items()
        for part in (chosen[i : i + BLOCK] for i in range(0, len(chosen), BLOCK))
    ]
