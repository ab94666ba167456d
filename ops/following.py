"""Listens to the events' channels, and comes back by itself."""

import time
from collections.abc import Callable, Iterator, Sequence

import orjson
import redis

from events.channels import event_channel
from schemas.envelope import Event

_LONGEST_PAUSE = 5.0
# A server that went away without a word is found out by asking this often.
_ASK_SECONDS = 5.0


def follow(
    client: "redis.Redis",
    namespace: str,
    names: Sequence[str] | None,
    *,
    told: Callable[[str], None],
    ask_seconds: float = _ASK_SECONDS,
) -> Iterator[Event]:
    """Events of these types (None: all) from now on, for ever. What was published while it was away is not seen:
    `told` says so. Raises redis.ConnectionError if the first connection cannot be made."""
    client.ping()
    pause, away = 0.1, False
    while True:
        try:
            for event in _listen(client, namespace, names, ask_seconds):
                if event is None:
                    if away:
                        told("Redis is back. What was published meanwhile is in the log: `mbevents events list`.")
                    pause, away = 0.1, False
                else:
                    yield event
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            if not away:
                told(f"Redis went away ({type(error).__name__}): waiting for it.")
            away = True
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)


def _listen(
    client: "redis.Redis", namespace: str, names: Sequence[str] | None, ask_seconds: float
) -> Iterator[Event | None]:
    """None once it is subscribed, then events. Raises redis.ConnectionError when Redis says nothing, not even when
    it is asked: it was stopped, or the connection is open on our side only."""
    with client.pubsub() as listener:  # type: ignore[no-untyped-call]
        if names is None:
            listener.psubscribe(event_channel(namespace, "*"))
        else:
            listener.subscribe(*(event_channel(namespace, name) for name in names))
        asked = False
        while True:
            message = listener.get_message(timeout=ask_seconds)
            if message is None:
                if asked:
                    raise redis.ConnectionError(f"no answer within {ask_seconds:g} s")
                listener.ping()
                asked = True
                continue
            asked = False
            if message["type"] in {"subscribe", "psubscribe"}:
                yield None
            elif message["type"] in {"message", "pmessage"}:
                event = _read(message["data"])
                if event is not None:
                    yield event


def _read(data: bytes) -> Event | None:
    """None for what is no event of ours: anybody may publish on a channel."""
    try:
        return Event.from_dict(orjson.loads(data))
    except (ValueError, KeyError, TypeError):
        return None
