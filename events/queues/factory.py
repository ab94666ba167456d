"""The broker that a URL asks for."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from events.errors import UsageError

from .broker import RedisQueues
from .types import Corpse, Depth, Reaped


class Broker(Protocol):
    """What both brokers are to the rest of us; to Dramatiq they are its own."""

    stopping: bool
    looks_until_idle: int
    slow_queues: Collection[str]

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any: ...
    def enqueue_many(self, messages: Iterable[Any], *, delay: int | None = None) -> int: ...
    def depths(self) -> dict[str, Depth]: ...
    def idle(self, queue_names: Collection[str], worker: Any) -> bool: ...
    def reap(self, *, max_redeliveries: int) -> Reaped: ...
    def corpses(self, limit: int = ...) -> list[Corpse]: ...
    def forget(self, corpses: Collection[Corpse]) -> None: ...
    def declare_queue(self, queue_name: str) -> Any: ...
    def get_declared_queues(self) -> set[str]: ...
    def stop_fetching(self) -> None: ...
    def close(self) -> None: ...


def make_broker(url: str, namespace: str = "MB", middleware: Sequence[Any] = ()) -> Broker:
    """`redis://`, `rediss://` and `unix://` are Redis; `amqp://` and `amqps://` RabbitMQ. Connects when it is used."""
    scheme = urlsplit(url).scheme
    broker: Broker
    if scheme in {"redis", "rediss", "unix"}:
        broker = RedisQueues(url, namespace=namespace, middleware=middleware)
    elif scheme in {"amqp", "amqps"}:
        # Only who uses RabbitMQ needs its client.
        from .rabbitmq import RabbitQueues

        broker = RabbitQueues(url, middleware=middleware)
    else:
        raise UsageError(
            f"BROKER_URL begins with {scheme or 'nothing'!r}: it must be redis://, rediss://, unix://, amqp:// or amqps://."
        )
    return broker
