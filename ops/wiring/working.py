"""What works, what looks after it, and what comes with the clock."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from events.catalogue import EXPORT_PACKET
from events.errors import UsageError
from events.log import service as event_log
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
        from workers.replication import actors as replication

        caches.register(broker, self.invalidator)
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
    def scheduler(self) -> "Scheduler":
        """Raises UsageError where nothing comes with the clock."""
        from producers.schedule.service import Job, Scheduler

        if self.settings.replication_type != "RT_MASTER":
            raise UsageError(
                "Only exports are scheduled as yet, and they are a master's: "
                f"REPLICATION_TYPE is {self.settings.replication_type}."
            )
        interval = self.settings.replication_export_interval
        return Scheduler(self.database_url, [Job(EXPORT_PACKET.name, interval, lambda: self._send(EXPORT_PACKET))])

    def _send(self, actor: "ActorSpec") -> None:
        """Send scheduled work, unless it waits in its queue already."""
        from events.ledger.messages import task_message

        self.sender.declare_queue(actor.queue)
        depth = self.sender.depths().get(actor.queue)
        if depth is None or depth.waiting == 0:
            self.sender.enqueue_many([task_message(None, queue=actor.queue, actor=actor.name, events=[])])
