"""The actor that the catalogue names `replication.export`."""

from collections.abc import Callable
from typing import Any, Protocol

import dramatiq
import psycopg
import structlog

from events.errors import MbeventsError
from workers.replication.export.core import Published
from workers.replication.export.service import ExportRunsError

log = structlog.get_logger(__name__)

EXPORT = "replication.export"
QUEUE = "replication"


class Exporter(Protocol):
    def export(self) -> list[Published]: ...


class Failures(Protocol):
    def count(self, name: str, value: float = 1, **labels: str) -> None: ...


def register(broker: Any, exporter: Callable[[], Exporter], telemetry: Failures) -> None:
    """Declare the actor on a broker; `exporter` is asked for when there is work, for it is a master's only."""

    def export(*, version: int, events: list[Any]) -> None:  # noqa: ARG001 (the middleware has checked it)
        try:
            exporter().export()
        except ExportRunsError:
            log.info("export_runs_already")
        except (MbeventsError, psycopg.OperationalError, OSError) as error:
            # The next interval is the next try, and goes on where this one stopped: a dead letter each time would only
            # be in the way.
            telemetry.count("mbevents_export_failures_total")
            log.error("export_failed", error=str(error))  # noqa: TRY400 (ours say what to do)

    dramatiq.actor(export, actor_name=EXPORT, queue_name=QUEUE, broker=broker, idempotent=True, max_retries=0)
