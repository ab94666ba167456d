"""Dramatiq's queues on RabbitMQ, with the same promises as on Redis as far as it can keep them."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import dramatiq
import pika
import pika.exceptions
from dramatiq import MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.common import current_millis, dq_name, q_name, xq_name
from dramatiq.errors import ConnectionClosed, DecodeError
from dramatiq.message import Message

from .core import bounded, unfit, unknown_version
from .encoder import MessageEncoder
from .types import Corpse, Depth, Reaped

CHUNK_MESSAGES = 500
ATTEMPTS = 3
TROUBLE = (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError, OSError)


class RabbitMessage(MessageProxy):  # type: ignore[misc]
    """A delivery, and whether it was delivered before."""

    def __init__(self, delivery: Any) -> None:
        super().__init__(delivery._message)
        self.redelivered = delivery.redelivered
        self._tag = delivery._tag

    def __str__(self) -> str:
        return f"{self._message.actor_name} {self._message.message_id}"

    __repr__ = __str__


class RabbitQueues(RabbitmqBroker):  # type: ignore[misc]
    """Quorum queues: they survive a server of a cluster, and count deliveries, so that a killer of workers is found.

    `max_deliveries` is generous, because RabbitMQ counts everything that was in a dead worker's hands, also what had
    not been started.
    """

    def __init__(
        self, url: str, *, middleware: Sequence[dramatiq.Middleware] | None = None, max_deliveries: int = 20
    ) -> None:
        self.stopping = False
        self._max_deliveries = max_deliveries
        super().__init__(url=url, middleware=list(middleware or ()))
        dramatiq.set_encoder(MessageEncoder())

    @property
    def consumer_class(self) -> Any:
        base = super().consumer_class

        class RabbitConsumer(base):  # type: ignore[misc, valid-type]
            def __next__(self) -> RabbitMessage | None:
                delivery = super().__next__()
                if delivery is None:
                    return None
                if unfit(delivery, self.queue_name, self.broker.actors) is not None:
                    self.nack(delivery)
                    return None
                return RabbitMessage(delivery)

        return RabbitConsumer

    def enqueue_many(self, messages: Iterable[Any], *, delay: int | None = None) -> int:
        """Enqueue in bulk; how many. RabbitMQ knows no ids: the same work enqueued twice is there twice."""
        sent = 0
        chunk: list[Any] = []
        for message in messages:
            chunk.append(self._prepared(message, delay))
            if len(chunk) >= CHUNK_MESSAGES:
                sent += self._publish(chunk, delay)
                chunk = []
        return sent + self._publish(chunk, delay)

    def _prepared(self, message: Any, delay: int | None) -> Any:
        if delay is None:
            return message.copy()
        return message.copy(queue_name=dq_name(message.queue_name), options={"eta": current_millis() + delay})

    def _publish(self, chunk: Sequence[Any], delay: int | None) -> int:
        if not chunk:
            return 0
        for message in chunk:
            self.emit_before("enqueue", message, delay)
        bodies = [(message.queue_name, message.encode()) for message in chunk]
        properties = pika.BasicProperties(delivery_mode=2)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                for queue_name in {q_name(name) for name, _ in bodies}:
                    self.declare_queue(queue_name, ensure=True)
                for queue_name, body in bodies:
                    self.channel.basic_publish(exchange="", routing_key=queue_name, body=body, properties=properties)
                # A question on the same channel: its answer comes after the server took all of them.
                self.channel.queue_declare(queue=bodies[-1][0], passive=True)
                break
            except TROUBLE as error:
                del self.connection
                if attempt == ATTEMPTS:
                    raise ConnectionClosed(f"RabbitMQ: {type(error).__name__}: {error}") from error
        for message in chunk:
            self.emit_after("enqueue", message, delay)
        return len(chunk)

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": self._max_deliveries,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": xq_name(queue_name),
        }

    def _declare_xq_queue(self, queue_name: str) -> Any:
        # Without a time to live: the reaper takes dead messages away when they are safe in Postgres.
        return self.channel.queue_declare(queue=xq_name(queue_name), durable=True, arguments={"x-queue-type": "quorum"})

    # Looking after the queues

    def reap(self, *, max_redeliveries: int) -> Reaped:  # noqa: ARG002
        """RabbitMQ returns what dead workers held by itself."""
        return Reaped()

    def corpses(self, limit: int = 100) -> list[Corpse]:
        """Up to `limit` dead messages; they stay un-acked on this thread's channel until `forget`."""
        found: list[Corpse] = []
        self._tags: dict[bytes, list[int]] = {}
        try:
            for queue_name in sorted(self.get_declared_queues()):
                self.declare_queue(queue_name, ensure=True)
                while len(found) < limit:
                    method, properties, body = self.channel.basic_get(xq_name(queue_name))
                    if method is None:
                        break
                    key = hashlib.sha256(queue_name.encode() + b"\0" + body).hexdigest()[:32].encode()
                    self._tags.setdefault(key, []).append(method.delivery_tag)
                    found.append(Corpse(queue_name, key, body, self._cause(body, properties)))
        except TROUBLE as error:
            del self.connection
            raise ConnectionClosed(f"RabbitMQ: {type(error).__name__}: {error}") from error
        return found

    def forget(self, corpses: Collection[Corpse]) -> None:
        try:
            for corpse in corpses:
                for tag in self._tags.pop(corpse.key, ()):
                    self.channel.basic_ack(tag)
        except TROUBLE as error:
            del self.connection
            raise ConnectionClosed(f"RabbitMQ: {type(error).__name__}: {error}") from error

    def _cause(self, body: bytes, properties: Any) -> str:
        deaths = (getattr(properties, "headers", None) or {}).get("x-death") or [{}]
        if deaths[0].get("reason") == "delivery_limit":
            return f"its worker died more than {self._max_deliveries} times while it was in its hands"
        try:
            message = Message.decode(body)
            problem = unfit(message, q_name(message.queue_name), self.actors)
            return problem or unknown_version(message.kwargs, (1,)) or "it was rejected; the worker's log says why"
        except DecodeError as error:
            return f"the message cannot be decoded: {bounded(repr(error.error))[:200]}"

    def depths(self) -> dict[str, Depth]:
        """How much is ready in each queue; RabbitMQ does not tell what is in progress, nor ages, in this protocol."""
        depths = {}
        try:
            for name in sorted(self.get_declared_queues()):
                self.declare_queue(name, ensure=True)
                ready, delayed, dead = self.get_queue_message_counts(name)
                depths[name] = Depth(ready, 0, delayed, dead, 0.0)
        except TROUBLE as error:
            del self.connection
            raise ConnectionClosed(f"RabbitMQ: {type(error).__name__}: {error}") from error
        return depths

    def idle(self, queue_names: Collection[str]) -> bool:
        """Nothing is ready. What this worker holds is the worker's to know."""
        depths = self.depths()
        return not any(depths[name].waiting + depths[name].delayed for name in queue_names if name in depths)
