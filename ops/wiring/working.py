"""What works, what looks after it, and what comes with the clock."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING, Any

from events.catalogue import EXPORT_PACKET, REFRESH_STATISTICS
from events.log import service as event_log
from ops.settings import RedisRole
from ops.wiring.accounts import Accounts
from ops.wiring.caches import Caches
from ops.wiring.limits import Limits
from ops.wiring.outside import Outside
from ops.wiring.replication import Replication

if TYPE_CHECKING:
    from events.catalogue import ActorSpec
    from events.ledger.requeue import Requeuer
    from events.queues.dead_letters import DeadLetters
    from events.queues.factory import Broker
    from events.queues.reaper import Reaper
    from producers.schedule.service import Scheduler
    from workers.caches.statistics.service import Statistics


class Working(Accounts, Caches, Limits, Outside, Replication):
    """What does work: so it knows everybody's actors."""

    @cached_property
    def worker_broker(self) -> "Broker":
        """A broker to work on, with every actor of the catalogue."""
        from ops import sentry
        from ops.end_to_end import EndToEnd
        from workers.middleware import PostgresLedger, standard_middleware

        standard = standard_middleware(
            PostgresLedger(self.connect),
            self.telemetry,
            limiter=self.limiter,
            max_retries=self.settings.job_max_retries,
        )
        # What is after an actor runs from last to first: it measures what succeeded, and reports last.
        reported = [sentry.Reported()] if self.settings.sentry_dsn is not None else []
        broker = self._broker([*reported, EndToEnd(self.telemetry), *standard])
        self._closing.callback(broker.close)
        self.register_actors(broker)
        return broker

    def register_actors(self, broker: Any) -> None:
        """Every actor that the catalogue names; a test compares the two."""
        from workers.accounts.sessions import actors as sessions
        from workers.caches import actors as caches
        from workers.caches.statistics import actors as statistics
        from workers.replication import actors as replication

        caches.register(broker, self.invalidator)
        statistics.register(broker, lambda: self.statistics)
        replication.register(broker, lambda: self.exporter, self.telemetry)
        sessions.register(broker, self.sessions)

    @cached_property
    def reaper(self) -> "Reaper":
        from events.queues.adapters import PostgresDeadLetters
        from events.queues.reaper import Reaper

        return Reaper(self.worker_broker, PostgresDeadLetters(self.connect), telemetry=self.telemetry)

    @cached_property
    def requeuer(self) -> "Requeuer":
        from events.ledger.requeue import GRACE

        return self._requeuer(GRACE)

    def refill(self) -> int:
        """Enqueue again what a broker lost, at once; how many."""
        return self._impatient.run_once()

    @cached_property
    def _impatient(self) -> "Requeuer":
        return self._requeuer(0)

    def _requeuer(self, grace: float) -> "Requeuer":
        from events.ledger.requeue import Requeuer

        def load(positions: Sequence[int]) -> list[dict[str, Any]]:
            with self.connect() as connection:
                return [event.to_dict() for event in event_log.at(connection, positions)]

        return Requeuer(self.connect, self.worker_broker, load, telemetry=self.telemetry, grace=grace)

    @cached_property
    def dead_letters(self) -> "DeadLetters":
        from events.queues.adapters import PostgresDeadLetters
        from events.queues.dead_letters import DeadLetters

        def enqueue_many(messages: Iterable[Any]) -> object:
            # Only a retry needs the broker.
            return self.sender.enqueue_many(messages)

        return DeadLetters(PostgresDeadLetters(self.connect), enqueue_many)

    @cached_property
    def statistics(self) -> "Statistics":
        from workers.caches.statistics.adapters import PostgresCounts, RedisRequests
        from workers.caches.statistics.service import Statistics

        role = RedisRole.STATISTICS
        asked = f"{self.prefix(role)}:asked"
        return Statistics(
            self.leased(role),
            PostgresCounts(self.connection),
            RedisRequests(self.client(role), asked, lambda: self._send(REFRESH_STATISTICS)),
            ttl=self.settings.statistics_cache_seconds,
            # Two intervals of the scheduler come before the end, so that one may be missed.
            margin=2 * self._statistics_interval,
            telemetry=self.telemetry,
        )

    @property
    def _statistics_interval(self) -> float:
        return max(1.0, self.settings.statistics_cache_seconds / 6)

    @cached_property
    def scheduler(self) -> "Scheduler":
        from producers.schedule.service import Job, Scheduler

        jobs = [Job(REFRESH_STATISTICS.name, self._statistics_interval, self.statistics.ask)]
        if self.settings.replication_type == "RT_MASTER":
            interval = self.settings.replication_export_interval
            jobs.append(Job(EXPORT_PACKET.name, interval, self.send_export))
        return Scheduler(self.database_url, jobs)

    def send_export(self) -> None:
        """Have a packet made, unless one waits to be made."""
        depth = self.sender.depths().get(EXPORT_PACKET.queue)
        if depth is None or depth.waiting == 0:
            self._send(EXPORT_PACKET)

    def _send(self, actor: "ActorSpec") -> None:
        from events.ledger.messages import task_message

        # In the web process each request may come in another thread.
        with closing(self.new_sender()) as broker:
            broker.enqueue_many([task_message(None, queue=actor.queue, actor=actor.name, events=[])])
