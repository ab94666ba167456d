"""The message of ledgered work."""

from collections.abc import Sequence
from typing import Any

from dramatiq.message import Message

from events.queues.core import MESSAGE_VERSION


def task_message(task_id: int, *, queue: str, actor: str, events: Sequence[dict[str, Any]]) -> Any:
    """`events` are CloudEvents as dictionaries (`Event.to_dict`)."""
    return Message(
        queue_name=queue,
        actor_name=actor,
        args=(),
        kwargs={"version": MESSAGE_VERSION, "events": list(events)},
        options={"task_id": task_id},
    )
