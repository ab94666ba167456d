"""A bridge that drains in a process of its own, and is killed just before or after its n-th word with a server."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import redis
from redis.connection import AbstractConnection

from events.queues.factory import make_broker
from events.telemetry import NoTelemetry
from producers.bridge.adapters import RedisPublisher
from producers.bridge.service import Bridge, BridgeOptions

OPTIONS = BridgeOptions(source="mb://chaos", part_rows=4)
LEADING = BridgeOptions(source="mb://chaos")


@contextmanager
def opened_bridge(
    database_url: str, channels_url: str, broker_url: str, options: BridgeOptions = OPTIONS
) -> Iterator[Bridge]:
    """A bridge that publishes to a real Redis."""
    broker = make_broker(broker_url)
    with redis.Redis.from_url(channels_url) as channels:
        yield Bridge(database_url, RedisPublisher(channels, broker, "MB"), options=options, telemetry=NoTelemetry())
    broker.close()


def drain_and_die(database_url: str, redis_url: str, moment: int) -> None:
    """Drain; SIGKILL at the given moment. Even moments are before an exchange with a server, odd ones after it."""
    moments = iter(range(10**9))

    def mortal(exchange: Callable[..., Any]) -> Callable[..., Any]:
        def exchanged(*args: Any, **kwargs: Any) -> Any:
            _die_if(next(moments) == moment)
            result = exchange(*args, **kwargs)
            _die_if(next(moments) == moment)
            return result

        return exchanged

    # Everything that either client says to its server goes through these.
    psycopg.Connection.wait = mortal(psycopg.Connection.wait)  # type: ignore[method-assign]
    AbstractConnection.send_packed_command = mortal(AbstractConnection.send_packed_command)  # type: ignore[method-assign]
    with opened_bridge(database_url, redis_url, redis_url) as bridge:
        bridge.drain()


def _die_if(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


def lead(database_url: str, redis_url: str) -> None:
    """A bridge in a process of its own, until it is killed."""
    with opened_bridge(database_url, redis_url, redis_url, LEADING) as bridge:
        bridge.run(threading.Event())
