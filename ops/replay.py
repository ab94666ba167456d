"""Tells events of the log again: to the channels, and to the actors as new work in the ledger."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from events import catalogue
from events.errors import PartlyDoneError, UnreachableError
from events.ledger import service as ledger
from events.ledger.collecting import BLOCK, Work
from events.ledger.service import NewTask
from events.log import service as log
from producers.bridge.publishing import Publisher
from schemas.envelope import Event

PAGE = 1_000

Connect = Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a replay would touch: events by type, and by the actor that would work on them again."""

    total: int
    events: dict[str, int]
    work: dict[str, int]


@dataclass(slots=True)
class Replayed:
    events: int = 0
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """Events of `types` (None: all) behind the position `after` and logged since `since`, up to the log's end now."""

    connect: Connect
    publisher: Publisher
    types: Sequence[str] | None = None
    since: datetime | None = None
    after: int = 0
    until: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        with self.connect() as connection:
            # What is written from now on is published anyway, and `cache.invalidated` would never end.
            object.__setattr__(self, "until", log.head(connection).position)

    def preview(self) -> Preview:
        events: Counter[str] = Counter()
        work: Counter[str] = Counter()
        for page in self._pages():
            for event in page:
                events[event.name] += 1
                work.update(actor.name for actor in _actors(event))
        return Preview(events.total(), dict(sorted(events.items())), dict(sorted(work.items())))

    def run(self, progress: Callable[[str], None] = lambda _: None) -> Replayed:
        """Page by page. Interrupted, it has told a part again, in order; the ledger has its work.

        Raises PartlyDoneError when the channels or queues went away in between.
        """
        done = Replayed()
        for page in self._pages():
            bodies = {event.sequence: event.to_json() for event in page}
            with self.connect() as connection, connection.transaction():
                work = _tasks(connection, page)
            # After the commit: a message whose task is not there would be skipped.
            try:
                self.publisher.publish(
                    list(log.encoded(page)),
                    [(each, [bodies[position] for position in each.positions]) for each in work],
                )
            except UnreachableError as error:
                if not done.events:
                    raise
                raise PartlyDoneError(
                    f"{error} Before that {done.events:,} of the events were published: go on with --after "
                    f"{page[0].sequence - 1}."
                ) from error
            done.events += len(page)
            done.tasks += len(work)
            if done.events % (50 * PAGE) == 0:
                progress(f"{done.events:,} events so far.")
        return done

    def _pages(self) -> Iterator[list[Event]]:
        after = self.after
        while True:
            with self.connect() as connection:
                found = log.read(connection, after=after, limit=PAGE, types=self.types, since=self.since)
            page = [event for event in found if event.sequence <= self.until]
            if page:
                yield page
            if len(page) < PAGE:
                return
            after = page[-1].sequence


def _tasks(connection: "psycopg.Connection[Any]", page: Sequence[Event]) -> list[Work]:
    positions: dict[catalogue.ActorSpec, list[int]] = defaultdict(list)
    for event in page:
        for actor in _actors(event):
            positions[actor].append(event.sequence)
    parts = [
        (actor, each[start : start + BLOCK])
        for actor, each in positions.items()
        for start in range(0, len(each), BLOCK)
    ]
    ids = iter(
        ledger.add(connection, [NewTask(actor.name, actor.queue, part) for actor, part in parts if actor.ledgered])
    )
    return [Work(next(ids) if actor.ledgered else None, actor.queue, actor.name, part) for actor, part in parts]


def _actors(event: Event) -> tuple[catalogue.ActorSpec, ...]:
    # An older release may have logged types that this one does not know: they are told, and nobody works on them.
    known = catalogue.EVENT_TYPES.get(event.name)
    return known.actors if known is not None else ()
