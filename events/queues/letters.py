"""Dead letters as values: what is kept of a message that will not run again by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from dramatiq.common import q_name
from dramatiq.errors import DecodeError
from dramatiq.message import Message

from .core import bounded, malformed
from .types import Corpse


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """A death to be told. Exactly one of `message` (JSON) and `raw` (what could not be read) is there."""

    delivery_id: str
    queue: str
    error: str
    message: bytes | None = None
    raw: bytes | None = None
    actor: str | None = None
    message_id: str | None = None
    task_id: int | None = None
    attempts: int = 1
    redeliveries: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row of the dead letters; `message` and `raw` only where a single one is shown."""

    id: int
    queue: str
    actor: str | None
    task_id: int | None
    message_id: str | None
    error: str
    attempts: int
    redeliveries: int
    died_at: datetime
    message: dict[str, Any] | None = None
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; a field that is None does not narrow it."""

    queue: str | None = None
    actor: str | None = None
    died_before: datetime | None = None
    died_after: datetime | None = None
    ids: Sequence[int] | None = None


def letter_of(fields: dict[str, Any], *, delivery_id: str, error: str, redeliveries: int = 0) -> NewDeadLetter:
    """The letter of a message given as `Message.asdict()`."""
    options = fields["options"]
    data = orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)
    readable = storable(data)
    return NewDeadLetter(
        delivery_id=delivery_id,
        queue=q_name(fields["queue_name"]),
        error=bounded(error),
        message=data if readable else None,
        raw=None if readable else data,
        actor=bounded(fields["actor_name"])[:200],
        message_id=bounded(fields["message_id"])[:200],
        task_id=options.get("task_id"),
        attempts=options.get("retries", 0) + 1,
        redeliveries=redeliveries,
    )


def letter_of_corpse(corpse: Corpse) -> NewDeadLetter:
    """The letter of a dead message of the broker, which may be anything. What no worker could run is kept as bytes."""
    try:
        message = Message.decode(corpse.data)
    except DecodeError:
        message = None
    if message is None or malformed(message) is not None:
        return NewDeadLetter(
            delivery_id=corpse.delivery_id, queue=corpse.queue, error=bounded(corpse.error), raw=corpse.data
        )
    # Where it was found is the truth: a person who retries it must not send it somewhere else.
    fields = {**message.asdict(), "queue_name": corpse.queue}
    return letter_of(fields, delivery_id=corpse.delivery_id, error=corpse.error)


def storable(data: bytes) -> bool:
    """Whether jsonb takes it: text in PostgreSQL cannot hold a NUL."""
    return b"\\u0000" not in data
