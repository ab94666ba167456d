"""What sends: the queues' senders, and the bridge."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ops.settings import RedisRole
from ops.wiring.servers import Servers

if TYPE_CHECKING:
    from events.queues.factory import Broker
    from producers.bridge.publishing import Publisher
    from producers.bridge.service import Bridge, BridgeOptions


class Sending(Servers):
    """What events and work are sent with."""

    @cached_property
    def sender(self) -> "Broker":
        """A broker to send with; it has no actors."""
        broker = self.new_sender()
        self._closing.callback(broker.close)
        return broker

    def new_sender(self) -> "Broker":
        """Another one, which is the caller's to close: RabbitMQ's client keeps a connection for each thread."""
        from events.catalogue import ACTORS

        broker = self._broker([])
        # The queues' depths are known before anything is sent.
        for queue in sorted({actor.queue for actor in ACTORS.values()}):
            broker.declare_queue(queue)
        return broker

    def _broker(self, middleware: Sequence[Any]) -> "Broker":
        from events.queues.factory import make_broker

        return make_broker(self.redis_url(RedisRole.BROKER), self.settings.redis_namespace, middleware)

    @property
    def bridge_options(self) -> "BridgeOptions":
        from producers.bridge.service import BridgeOptions

        return BridgeOptions(
            source=self.source,
            replication_type=self.settings.replication_type,
            retention_days=self.settings.event_retention_days,
        )

    @cached_property
    def publisher(self) -> "Publisher":
        from producers.bridge.adapters import RedisPublisher

        return RedisPublisher(self.channels, self.sender, self.settings.redis_namespace)

    @cached_property
    def bridge(self) -> "Bridge":
        return self.make_bridge()

    def make_bridge(self) -> "Bridge":
        from producers.bridge.service import Bridge

        return Bridge(self.database_url, self.publisher, options=self.bridge_options, telemetry=self.telemetry)
