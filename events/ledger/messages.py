"""The message of work on events."""

from collections.abc import Sequence
from typing import Any

from dramatiq.message import Message

from events.queues.core import MESSAGE_VERSION


def task_message(task_id: int | None, *, queue: str, actor: str, events: Sequence[Any]) -> Any:
    """`events` are CloudEvents as dictionaries (`Event.to_dict`) or, only to be sent, `orjson.Fragment` of their JSON.

    Without a `task_id` it is work that stands in no ledger.
    """
    return Message(
        queue_name=queue,
        actor_name=actor,
        args=(),
        kwargs={"version": MESSAGE_VERSION, "events": list(events)},
        options={} if task_id is None else {"task_id": task_id},
    )
