"""Dramatiq's queues on RabbitMQ, with the same promises as on Redis as far as it can keep them."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dramatiq
import pika
import pika.exceptions
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import current_millis, dq_name, q_name, xq_name
from dramatiq.errors import ConnectionClosed, DecodeError
from dramatiq.message import Message

from events.catalogue import SLOW_QUEUES

from .consumer import QueuedMessage
from .core import bounded, describe, unfit
from .encoder import MessageEncoder, encode_message
from .types import Corpse, Depth, Reaped

CHUNK_MESSAGES = 500
ATTEMPTS = 3
ERROR_HEADER = "mbevents-error"
NOT_FOUND = 404
TROUBLE = (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError, OSError)


class RabbitConsumer(_RabbitmqConsumer):  # type: ignore[misc]
    """Dramatiq's consumer, which puts off what is to run again and buries what cannot run with the reason why."""

    def __next__(self) -> QueuedMessage | None:
        delivery = super().__next__()
        if delivery is None:
            return None
        message = QueuedMessage(delivery._message)
        message._tag = delivery._tag
        message.error = unfit(message, self.queue_name, self.broker.actors)
        if message.error is not None:
            self.nack(message)
            return None
        return message

    def ack(self, message: Any) -> None:
        if message.again is not None:
            # Sent before it is acked: a crash in between runs it twice, never not at all.
            again, delay = message.again
            self.broker.enqueue(again, delay=delay)
        super().ack(message)

    def nack(self, message: Any) -> None:
        # Not rejected: RabbitMQ would move it to the dead ones without the reason.
        error = message.error or (describe(message._exception) if message._exception else "it was rejected")
        self.broker.bury(q_name(self.queue_name), encode_message(message._message), error)
        super().ack(message)


class RabbitQueues(RabbitmqBroker):  # type: ignore[misc]
    """Quorum queues: they survive a server of a cluster, and count deliveries, so that a killer of workers is found.

    `max_deliveries` is generous, because RabbitMQ counts everything that was in a stopped worker's hands, also what
    had not been started.
    """

    # Messages may be on the wire, where nobody sees them.
    looks_until_idle = 10
    slow_queues: Collection[str] = SLOW_QUEUES

    def __init__(
        self, url: str, *, middleware: Sequence[dramatiq.Middleware] | None = None, max_deliveries: int = 20
    ) -> None:
        self.stopping = False
        self._max_deliveries = max_deliveries
        super().__init__(url=url, middleware=list(middleware or ()))
        dramatiq.set_encoder(MessageEncoder())

    @property
    def consumer_class(self) -> type[RabbitConsumer]:
        return RabbitConsumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        return super().consume(queue_name, 1 if queue_name in self.slow_queues else prefetch, timeout)

    def stop_fetching(self) -> None:
        """What is in hand may be finished. Nothing is to be told to RabbitMQ: what is not acked it delivers again."""
        self.stopping = True

    # Sending

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """Enqueue one message; `delay` in milliseconds."""
        self.enqueue_many([message], delay=delay)
        return message

    def enqueue_many(self, messages: Iterable[Any], *, delay: int | None = None) -> int:
        """Enqueue in bulk; how many. RabbitMQ knows no ids: the same work enqueued twice is there twice."""
        sent = 0
        chunk: list[Any] = []
        for message in messages:
            chunk.append(_prepared(message, delay))
            if len(chunk) >= CHUNK_MESSAGES:
                sent += self._send(chunk, delay)
                chunk = []
        return sent + self._send(chunk, delay)

    def _send(self, chunk: Sequence[Any], delay: int | None) -> int:
        for message in chunk:
            self.emit_before("enqueue", message, delay)
        self._publish([(message.queue_name, encode_message(message)) for message in chunk])
        for message in chunk:
            self.emit_after("enqueue", message, delay)
        return len(chunk)

    def bury(self, queue_name: str, body: bytes, error: str) -> None:
        """Put a message among the dead ones of its queue; the reaper takes it to Postgres."""
        self._publish([(xq_name(queue_name), body)], headers={ERROR_HEADER: error.encode(errors="replace")[:8_000]})

    def _publish(self, bodies: Sequence[tuple[str, bytes]], headers: dict[str, Any] | None = None) -> None:
        if not bodies:
            return
        properties = pika.BasicProperties(delivery_mode=2, headers=headers)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                for queue_name in {_canonical(name) for name, _ in bodies}:
                    self.declare_queue(queue_name, ensure=True)
                for queue_name, body in bodies:
                    self.channel.basic_publish(exchange="", routing_key=queue_name, body=body, properties=properties)
                # A question on the same channel: its answer comes after the server took all of them.
                self.channel.queue_declare(queue=bodies[-1][0], passive=True)
            except TROUBLE as error:
                # A connection that was idle for long is closed by the server, and found dead at its first use.
                del self.connection
                if attempt == ATTEMPTS:
                    raise _closed(error) from error
            else:
                return

    # Queues as they are declared

    def _ensure_queue(self, canonical_queue_name: str) -> None:
        try:
            super()._ensure_queue(canonical_queue_name)
        except ConnectionClosed as error:
            raise _closed(error.args[0]) from error

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": self._max_deliveries,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": xq_name(queue_name),
        }

    def _declare_dq_queue(self, queue_name: str) -> Any:
        # Without a limit: workers hold what is delayed without ever starting it, and give it back when they stop.
        arguments = self._build_queue_arguments(queue_name)
        del arguments["x-delivery-limit"]
        return self.channel.queue_declare(queue=dq_name(queue_name), durable=True, arguments=arguments)

    def _declare_xq_queue(self, queue_name: str) -> Any:
        # Without a time to live: the reaper takes dead messages away when they are safe in Postgres.
        return self.channel.queue_declare(queue=xq_name(queue_name), durable=True, arguments={"x-queue-type": "quorum"})

    # Looking after the queues

    def reap(self, *, max_redeliveries: int) -> Reaped:  # noqa: ARG002 (RabbitMQ counts by itself)
        """RabbitMQ returns what dead workers held by itself; only the dead messages are for us."""
        with self._closed_on_trouble():
            self._return_corpses()
        return Reaped(dead=sum(depth.dead for depth in self.depths().values()))

    def corpses(self, limit: int = 100) -> list[Corpse]:
        """Up to `limit` dead messages; they stay un-acked on this thread's channel until `forget`."""
        found: list[Corpse] = []
        with self._closed_on_trouble():
            self._return_corpses()
            tags: dict[bytes, list[int]] = {}
            self.state.corpse_tags = (self.channel, tags)
            for queue_name in sorted(self.get_declared_queues()):
                self.declare_queue(queue_name, ensure=True)
                while len(found) < limit:
                    method, properties, body = self.channel.basic_get(xq_name(queue_name))
                    if method is None:
                        break
                    corpse = self._corpse(queue_name, properties, body)
                    tags.setdefault(corpse.key, []).append(method.delivery_tag)
                    found.append(corpse)
        return found

    def forget(self, corpses: Collection[Corpse]) -> None:
        with self._closed_on_trouble():
            tags = self._corpse_tags()
            for corpse in corpses:
                for tag in tags.pop(corpse.key, ()):
                    self.channel.basic_ack(tag)

    def _corpse_tags(self) -> dict[bytes, list[int]]:
        """Delivery tags of the corpses that this thread was given, if its channel is still the one that they are of."""
        channel, tags = getattr(self.state, "corpse_tags", (None, {}))
        return tags if channel is not None and channel is self.channel else {}

    def _return_corpses(self) -> None:
        """Those that were given out and never forgotten: they could not be kept."""
        tags = self._corpse_tags()
        while tags:
            for tag in tags.popitem()[1]:
                self.channel.basic_nack(tag, requeue=True)

    def _corpse(self, queue_name: str, properties: Any, body: bytes) -> Corpse:
        headers = getattr(properties, "headers", None) or {}
        told = headers.get(ERROR_HEADER)
        error = told.decode(errors="replace") if isinstance(told, bytes) else str(told or "it was rejected")
        reason = (headers.get("x-death") or [{}])[0].get("reason")
        if told is None and reason == "delivery_limit":
            error = f"its worker died more than {self._max_deliveries} times while it was in its hands"
        try:
            # What the dead letters know it by when they get it from a worker.
            key = Message.decode(body).message_id.encode()
        except (DecodeError, AttributeError) as problem:
            key = hashlib.sha256(queue_name.encode() + b"\0" + body).hexdigest()[:32].encode()
            if told is None:
                cause = getattr(problem, "error", problem)
                error = f"the message cannot be decoded: {bounded(repr(cause))[:200]}"
        return Corpse(queue_name, key, body, error)

    def depths(self) -> dict[str, Depth]:
        """How much is ready in each queue; RabbitMQ does not tell what is in progress, nor ages, in this protocol."""
        with self._closed_on_trouble():
            # Also who has declared no queue is told when there is no server.
            _ = self.channel
            return {
                name: Depth(self._ready(name), 0, self._ready(dq_name(name)), self._ready(xq_name(name)), 0.0)
                for name in sorted(self.get_declared_queues())
            }

    def _ready(self, queue_name: str) -> int:
        """Asked without making the queue: that is for who sends or works."""
        try:
            return int(self.channel.queue_declare(queue=queue_name, passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != NOT_FOUND:
                raise
            # RabbitMQ closes the channel of who asks for what is not there.
            del self.channel
            return 0

    def idle(self, queue_names: Collection[str], worker: Any) -> bool:
        """Nothing is ready, in the worker's hands, or delayed and due there."""
        if worker.work_queue.unfinished_tasks:
            return False
        now = current_millis()
        consumers = [worker.consumers.get(dq_name(name)) for name in queue_names]
        if any(item.priority <= now for each in consumers if each for item in list(each.delay_queue.queue)):
            return False
        depths = self.depths()
        return not any(depths[name].waiting + depths[name].delayed for name in queue_names if name in depths)

    @contextmanager
    def _closed_on_trouble(self) -> Iterator[None]:
        try:
            yield
        except TROUBLE as error:
            del self.connection
            raise _closed(error) from error


def _closed(error: BaseException) -> ConnectionClosed:
    # Pika's errors often have no text: what happened is an error in their arguments.
    reason = str(error) or ", ".join(map(repr, error.args))
    return ConnectionClosed(f"RabbitMQ: {type(error).__name__}: {reason}")


def _canonical(queue_name: str) -> str:
    return str(q_name(queue_name.removesuffix(".XQ")))


def _prepared(message: Any, delay: int | None) -> Any:
    queued_at = current_millis() + (delay or 0)
    if delay is None:
        return message.copy(options={"queued_at": queued_at})
    return message.copy(queue_name=dq_name(message.queue_name), options={"queued_at": queued_at, "eta": queued_at})
