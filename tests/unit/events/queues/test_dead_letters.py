"""Dead letters over a store in memory, which keeps what the real one promises."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson

from events.queues.adapters import TakenLetters
from events.queues.letters import DeadLetter, Filter, NewDeadLetter
from tests.unit.events.queues.store_suite import StoreSuite


class MemoryStore:
    """Letters in a list."""

    def __init__(self, letters: Iterable[NewDeadLetter]) -> None:
        self._rows = [_row(n, each) for n, each in enumerate(letters, 1)]

    def page(self, which: Filter, *, limit: int, below: int | None) -> list[DeadLetter]:
        found = [each for each in reversed(self._matching(which)) if below is None or each.id < below]
        return [DeadLetter(**{**_fields(each), "message": None, "raw": None}) for each in found[:limit]]

    def count(self, which: Filter, *, decoded: bool = False) -> int:
        return sum(not decoded or each.message is not None for each in self._matching(which))

    def show(self, letter_id: int) -> DeadLetter | None:
        return next((each for each in self._rows if each.id == letter_id), None)

    def newest(self) -> int:
        return max((each.id for each in self._rows), default=0)

    @contextmanager
    def take_to_retry(self, which: Filter, *, above: int, newest: int, limit: int) -> Iterator[TakenLetters]:
        found = [each for each in self._between(which, above, newest) if each.message is not None][:limit]
        yield TakenLetters([each.id for each in found], [each.message for each in found if each.message is not None])
        self._remove(found)

    def discard(self, which: Filter, *, above: int, newest: int, limit: int) -> Sequence[int]:
        found = self._between(which, above, newest)[:limit]
        self._remove(found)
        return [each.id for each in found]

    def _matching(self, which: Filter) -> list[DeadLetter]:
        return [
            each
            for each in self._rows
            if (which.ids is None or each.id in which.ids)
            and which.queue in (None, each.queue)
            and which.actor in (None, each.actor)
            and (which.died_before is None or each.died_at < which.died_before)
            and (which.died_after is None or each.died_at >= which.died_after)
        ]

    def _between(self, which: Filter, above: int, newest: int) -> list[DeadLetter]:
        return [each for each in self._matching(which) if above < each.id <= newest]

    def _remove(self, letters: list[DeadLetter]) -> None:
        self._rows = [each for each in self._rows if each not in letters]


def _row(n: int, new: NewDeadLetter) -> DeadLetter:
    message: dict[str, Any] | None = orjson.loads(new.message) if new.message is not None else None
    return DeadLetter(
        id=n,
        queue=new.queue,
        actor=new.actor,
        task_id=new.task_id,
        message_id=new.message_id,
        error=new.error,
        attempts=new.attempts,
        redeliveries=new.redeliveries,
        died_at=datetime.now(UTC),
        message=message,
        raw=new.raw,
    )


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in DeadLetter.__slots__}


class TestMemoryStore(StoreSuite):
    def store(self, letters: Iterable[NewDeadLetter]) -> MemoryStore:
        return MemoryStore(letters)
