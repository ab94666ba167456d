"""Finds out which message kills its workers, among those that were in the same hands."""

# ruff: noqa: ARG002 (the hooks' signatures are Dramatiq's)

from typing import TYPE_CHECKING, Any

import dramatiq
import structlog
from dramatiq.errors import BrokerConnectionError

if TYPE_CHECKING:
    from .broker import RedisQueues

log = structlog.get_logger(__name__)


class Suspects(dramatiq.Middleware):  # type: ignore[misc]
    """A message that was in a dead worker's hands is marked when work on it starts; after a second death it runs alone.

    A worker holds hundreds of messages. Without the mark each of them would be counted at every death, and one killer
    would take all its neighbours with it to the dead letters. Fresh messages pay nothing for it.
    """

    def before_process_message(self, broker: "RedisQueues", message: Any) -> None:
        deaths = getattr(message, "redeliveries", 0)
        if deaths == 0:
            return
        if deaths > 1:
            broker.alone.acquire()
            message.runs_alone = True
        try:
            broker.mark_started(message.queue_name, message.options["redis_message_id"])
        except BrokerConnectionError as error:
            # Then this death would not be counted; the next will be.
            log.warning("suspect_not_marked", error=str(error))

    def after_process_message(
        self, broker: "RedisQueues", message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if getattr(message, "runs_alone", False):
            message.runs_alone = False
            broker.alone.release()

    def after_skip_message(self, broker: "RedisQueues", message: Any) -> None:
        self.after_process_message(broker, message)
