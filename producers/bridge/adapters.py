"""The channels and queues that the bridge publishes to."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import islice
from typing import Any, Protocol

import orjson
import redis
from dramatiq.errors import BrokerError

from events.channels import event_channel
from events.ledger.collecting import Work
from events.ledger.messages import task_message
from events.log.service import Logged
from producers.bridge.publishing import PublishFailedError

# Bounds how long Redis does nothing else.
_AT_ONCE = 500


class Sender(Protocol):
    """The bulk side of a broker."""

    def enqueue_many(self, messages: Iterable[Any]) -> int: ...


class RedisPublisher:
    """Messages through the broker, events on Redis channels. `channels` must not repeat commands by itself."""

    def __init__(self, channels: "redis.Redis", broker: Sender, namespace: str) -> None:
        self._broker = broker
        self._namespace = namespace
        self._names: dict[str, bytes] = {}
        self._publish = channels.register_script(files("producers.bridge").joinpath("publish.lua").read_bytes())

    def publish(self, events: Sequence[Logged], work: Sequence[tuple[Work, list[bytes]]]) -> None:
        """See `producers.bridge.publishing.Publisher`."""
        try:
            if work:
                self._broker.enqueue_many(_message(each, bodies) for each, bodies in work)
        except (BrokerError, OSError) as error:
            raise PublishFailedError(f"The queues do not take messages ({error}). See `mbevents doctor`.") from error
        try:
            self._tell(events)
        except (redis.RedisError, OSError) as error:
            raise PublishFailedError(
                f"Redis does not take events for its channels ({error}). See `mbevents doctor`."
            ) from error

    def _tell(self, events: Sequence[Logged]) -> None:
        waiting = iter(events)
        while part := list(islice(waiting, _AT_ONCE)):
            arguments: list[bytes] = []
            for event in part:
                arguments += (self._channel(event.name), event.body)
            self._publish(args=arguments)

    def _channel(self, name: str) -> bytes:
        channel = self._names.get(name)
        if channel is None:
            channel = self._names[name] = event_channel(self._namespace, name).encode()
        return channel


def _message(work: Work, bodies: Iterable[bytes]) -> Any:
    # Encoded once for channels and queues.
    events = [orjson.Fragment(body) for body in bodies]
    return task_message(work.task_id, queue=work.queue, actor=work.actor, events=events)
