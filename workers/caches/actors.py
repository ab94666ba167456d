"""The actor that the catalogue names `caches.invalidate`."""

from typing import Any, Protocol

import dramatiq
import structlog

from workers.nonsense import InvalidEventsError

log = structlog.get_logger(__name__)

ACTOR = "caches.invalidate"
QUEUE = "caches"


class Service(Protocol):
    def invalidate(self, events: list[Any]) -> None: ...


def register(broker: Any, service: Service) -> None:
    """Declare the actor on a broker. What makes no sense is not tried again; everything else is."""

    def invalidate(*, version: int, events: list[Any]) -> None:  # noqa: ARG001 (the middleware has checked it)
        if not isinstance(events, list):
            raise InvalidEventsError(f"The events of the message are a {type(events).__name__}, not a list.")
        service.invalidate(events)

    dramatiq.actor(
        invalidate,
        actor_name=ACTOR,
        queue_name=QUEUE,
        broker=broker,
        throws=(InvalidEventsError,),
        # To forget twice is to forget; what is announced twice has the same id.
        idempotent=True,
    )
