"""Dead letters as values: what is kept of a message that will not run again by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from .core import bounded
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
    data = orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)
    options = fields.get("options")
    options = options if isinstance(options, dict) else {}
    task_id, retries = options.get("task_id"), options.get("retries", 0)
    readable = storable(data)
    return NewDeadLetter(
        delivery_id=delivery_id,
        queue=str(fields.get("queue_name", "")).removesuffix(".DQ"),
        error=bounded(error),
        message=data if readable else None,
        raw=None if readable else data,
        actor=bounded(str(fields["actor_name"]))[:200] if "actor_name" in fields else None,
        message_id=bounded(str(fields["message_id"]))[:200] if "message_id" in fields else None,
        task_id=task_id if isinstance(task_id, int) else None,
        attempts=(retries if isinstance(retries, int) else 0) + 1,
        redeliveries=redeliveries,
    )


def letter_of_corpse(corpse: Corpse) -> NewDeadLetter:
    """The letter of a dead message of the broker, which may be anything."""
    try:
        fields = orjson.loads(corpse.data)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        return NewDeadLetter(
            delivery_id=corpse.delivery_id, queue=corpse.queue, error=bounded(corpse.error), raw=corpse.data
        )
    fields["queue_name"] = corpse.queue
    return letter_of(fields, delivery_id=corpse.delivery_id, error=corpse.error)


def storable(data: bytes) -> bool:
    """Whether jsonb takes it: it knows no NUL, and no number beyond numeric's range."""
    return b"\\u0000" not in data and b"\0" not in data
