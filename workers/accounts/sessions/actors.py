"""The actor that the catalogue names `accounts.end_sessions`."""

from typing import Any, Protocol

import dramatiq

from workers.nonsense import InvalidEventsError

ACTOR = "accounts.end_sessions"
QUEUE = "accounts"


class Service(Protocol):
    def end_barred(self, events: list[Any]) -> None: ...


def register(broker: Any, service: Service) -> None:
    """Declare the actor on a broker. What makes no sense is not tried again; everything else is."""

    def end_sessions(*, version: int, events: list[Any]) -> None:  # noqa: ARG001 (the middleware has checked it)
        if not isinstance(events, list):
            raise InvalidEventsError(f"The events of the message are a {type(events).__name__}, not a list.")
        service.end_barred(events)

    # Not idempotent: done again a day later it would end the session of who is no spammer any more.
    dramatiq.actor(end_sessions, actor_name=ACTOR, queue_name=QUEUE, broker=broker, throws=(InvalidEventsError,))
