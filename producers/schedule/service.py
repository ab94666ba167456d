"""Work that comes with the clock: one scheduler sends it, others stand by."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from events.locks import SCHEDULER_KEY

log = structlog.get_logger(__name__)

_STANDBY = 1.0
# A session that is gone must be noticed: another scheduler leads by then.
_PROBE = 5.0
_OPTIONS = {
    "connect_timeout": "5",
    "tcp_user_timeout": "15000",
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}


@dataclass
class Job:
    """What `send` does, every `interval` seconds; at once when a scheduler begins to lead."""

    name: str
    interval: float
    send: Callable[[], None]
    due: float = field(default=0.0, init=False)


class Scheduler:
    """Any number may run on a database: one leads. Sends each job when it is due."""

    def __init__(self, database_url: str, jobs: Sequence[Job]) -> None:
        self._url = make_conninfo(database_url, application_name="mbevents scheduler", **_OPTIONS)
        self._jobs = jobs
        self.connected = False

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        pause = 0.1
        while not stop.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True) as connection:
                    self.connected, pause = True, 0.1
                    if self._leads(connection, stop):
                        log.info("scheduler_leads")
                        self._lead(connection, stop)
            except psycopg.Error as error:
                log.warning("scheduler_disconnected", error=type(error).__name__)
                self.connected = False
                stop.wait(pause)
                pause = min(2.0, pause * 2)

    def _leads(self, connection: "psycopg.Connection[tuple[object, ...]]", stop: threading.Event) -> bool:
        while not stop.is_set():
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (SCHEDULER_KEY,)).fetchone()
            if row is not None and row[0]:
                return True
            stop.wait(_STANDBY)
        return False

    def _lead(self, connection: "psycopg.Connection[tuple[object, ...]]", stop: threading.Event) -> None:
        for job in self._jobs:
            job.due = time.monotonic()
        while not stop.is_set():
            connection.execute("SELECT")
            now = time.monotonic()
            for job in self._jobs:
                if job.due <= now:
                    self._send(job)
                    # What was missed while this machine slept is not made up for.
                    job.due = max(job.due + job.interval, now)
            soonest = min((job.due for job in self._jobs), default=now + _PROBE)
            stop.wait(max(0.0, min(soonest - time.monotonic(), _PROBE)))

    def _send(self, job: Job) -> None:
        try:
            job.send()
        except Exception as error:
            # The queues are away: the next interval tries again.
            log.error("schedule_failed", job=job.name, error=type(error).__name__)  # noqa: TRY400 (may quote an address)
