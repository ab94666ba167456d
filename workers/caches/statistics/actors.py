"""The actor that the catalogue names `caches.refresh_statistics`."""

from collections.abc import Callable
from typing import Any, Protocol

import dramatiq
import psycopg
import structlog

from workers.leased.service import StoreUnavailableError

log = structlog.get_logger(__name__)

ACTOR = "caches.refresh_statistics"
QUEUE = "statistics"


class Service(Protocol):
    def refresh(self, going: Callable[[], bool]) -> int: ...


def register(broker: Any, service: Callable[[], Service]) -> None:
    """Declare the actor on a broker; `service` is asked for when there is work."""

    def refresh_statistics(*, version: int, events: list[Any]) -> None:  # noqa: ARG001 (the middleware has checked it)
        try:
            # A process that ends waits for the count in hand, not for all.
            service().refresh(lambda: not broker.stopping)
        except (StoreUnavailableError, psycopg.OperationalError) as error:
            # The next interval, or reader, is the next try; a dead letter each time would only be in the way.
            log.warning("statistics_not_refreshed", error=type(error).__name__)

    dramatiq.actor(
        refresh_statistics, actor_name=ACTOR, queue_name=QUEUE, broker=broker, idempotent=True, max_retries=0
    )
