"""The dead letters: looked at, retried or thrown away, by a person."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from dramatiq.message import Message

from events.errors import NotFoundError

from .letters import DeadLetter, Filter

# Letters with 500 events each must fit into memory; small ones go fast enough.
RETRY_BATCH = 200
DISCARD_BATCH = 5_000
# Options that attempts leave in a message.
TRACES = {"retries", "eta", "redis_message_id", "queued_at"}


class Batch(Protocol):
    """Letters taken out of the store; for good once the block around it ends without an error."""

    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def messages(self) -> Sequence[dict[str, Any]]: ...


class DeadLetterStore(Protocol):
    """Where dead letters are kept."""

    def page(self, which: Filter, *, limit: int, below: int | None) -> list[DeadLetter]: ...
    def count(self, which: Filter, *, decoded: bool = False) -> int: ...
    def show(self, letter_id: int) -> DeadLetter | None: ...
    def newest(self) -> int: ...
    def take_to_retry(self, which: Filter, *, above: int, newest: int, limit: int) -> AbstractContextManager[Batch]: ...
    def discard(self, which: Filter, *, above: int, newest: int, limit: int) -> Sequence[int]: ...


class DeadLetters:
    """`send` enqueues messages in bulk: `broker.enqueue_many`."""

    def __init__(self, store: DeadLetterStore, send: Callable[[Iterable[Any]], object]) -> None:
        self._store = store
        self._send = send

    def list(self, which: Filter | None = None, *, limit: int = 50, below: int | None = None) -> list[DeadLetter]:
        """Newest first, without their messages; `below` an id, to turn the page."""
        return self._store.page(which or Filter(), limit=limit, below=below)

    def count(self, which: Filter | None = None) -> int:
        return self._store.count(which or Filter())

    def count_retriable(self, which: Filter) -> int:
        """How many `retry` would enqueue: what is no message can only be discarded."""
        return self._store.count(which, decoded=True)

    def show(self, letter_id: int) -> DeadLetter:
        """One with its message. Raises NotFoundError."""
        letter = self._store.show(letter_id)
        if letter is None:
            raise NotFoundError(f"There is no dead letter {letter_id}: it was retried or discarded, or never was.")
        return letter

    def retry(self, which: Filter) -> int:
        """Enqueue all that match again, as if they had never run; how many. What is no message stays."""
        retried, above, newest = 0, 0, self._store.newest()
        while True:
            with self._store.take_to_retry(which, above=above, newest=newest, limit=RETRY_BATCH) as batch:
                if not batch.ids:
                    return retried
                # In the queue before the row is gone for good: a crash in between runs it twice, never not at all.
                self._send(_afresh(fields) for fields in batch.messages)
            above = batch.ids[-1]
            retried += len(batch.ids)

    def discard(self, which: Filter) -> int:
        """Throw away all that match, and the ledgered work behind them; how many."""
        discarded, above, newest = 0, 0, self._store.newest()
        while ids := self._store.discard(which, above=above, newest=newest, limit=DISCARD_BATCH):
            discarded += len(ids)
            above = ids[-1]
        return discarded


def _afresh(fields: dict[str, Any]) -> Any:
    """The message with nothing left of its former attempts. Its task's id stays, and with it that it is one work."""
    options = {name: value for name, value in fields["options"].items() if name not in TRACES}
    return Message(
        queue_name=fields["queue_name"],
        actor_name=fields["actor_name"],
        args=tuple(fields["args"]),
        kwargs=fields["kwargs"],
        options=options,
        message_id=fields["message_id"],
    )
