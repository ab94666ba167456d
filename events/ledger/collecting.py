"""What the events of one transaction call for: messages of a bounded size, and a task for each that is ledgered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from events import catalogue
from events.ledger import service as ledger
from events.ledger.service import NewTask

# Events of one message, and of one task of the ledger.
BLOCK = 500


@dataclass(frozen=True, slots=True)
class Work:
    """Events for one actor: the message to enqueue. `task_id` is None for work that is not ledgered."""

    task_id: int | None
    queue: str
    actor: str
    positions: Sequence[int]


class Tasks:
    """Collects what the actors of the catalogue have to do, in messages of at most BLOCK events."""

    def __init__(self) -> None:
        self._open: dict[catalogue.ActorSpec, list[int]] = {}
        self._full: list[tuple[catalogue.ActorSpec, list[int]]] = []

    def add(self, name: str, position: int) -> None:
        """An event of this type is at this position of the log."""
        for actor in catalogue.actors_for(name):
            positions = self._open.setdefault(actor, [])
            positions.append(position)
            if len(positions) >= BLOCK:
                self._full.append((actor, self._open.pop(actor)))

    def write(self, connection: "psycopg.Connection[Any]") -> Callable[[], list[Work]]:
        """In the ledger what belongs there; what is returned tells all of it."""
        work = [*self._full, *self._open.items()]
        added = ledger.start_adding(
            connection, [NewTask(actor.name, actor.queue, positions) for actor, positions in work if actor.ledgered]
        )

        def told() -> list[Work]:
            ids = iter(added())
            return [
                Work(next(ids) if actor.ledgered else None, actor.queue, actor.name, positions)
                for actor, positions in work
            ]

        return told
