"""The consumer of one queue in Redis: it sleeps until it is woken, and keeps account of what it holds."""

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Consumer, MessageProxy
from dramatiq.errors import BrokerConnectionError, DecodeError
from dramatiq.message import Message

from .core import bounded, describe, unfit

if TYPE_CHECKING:
    from .broker import RedisQueues

log = structlog.get_logger(__name__)

# More at once would only make the script that fetches them hold up everybody else.
MOST_AT_ONCE = 500
# Looking without being woken, in seconds, while the wake-ups work; when they do not, the consumer's timeout counts.
SAFETY_POLL = 5.0


class QueuedMessage(MessageProxy):  # type: ignore[misc]
    """A message in a worker's hands.

    `redeliveries`: workers that died with it in their hands. `again`: what takes its place after so many milliseconds.
    `error`: why it is rejected.
    """

    def __init__(self, message: Any, redeliveries: int = 0) -> None:
        super().__init__(message)
        self.redeliveries = redeliveries
        self.again: tuple[Any, int] | None = None
        self.error: str | None = None

    def __str__(self) -> str:
        # Dramatiq logs messages as text: ids tell enough, and the events are not for the log.
        return f"{self._message.actor_name} {self._message.message_id}"

    __repr__ = __str__


class Hand:
    """Ids of what this process got from a queue and has not finished."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._twice: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, redis_id: str) -> bool:
        return redis_id in self._ids

    def take(self, redis_id: str) -> bool:
        """False when it is here already: Redis lost its data, or took us for dead, and delivers it again."""
        with self._lock:
            new = redis_id not in self._ids
            (self._ids if new else self._twice).add(redis_id)
            return new

    def let_go(self, redis_id: str) -> bool:
        """Whether it was delivered again meanwhile."""
        with self._lock:
            self._ids.discard(redis_id)
            twice = redis_id in self._twice
            self._twice.discard(redis_id)
            return twice


class RedisConsumer(Consumer):  # type: ignore[misc]
    """Gives out a queue's messages; what it gave out and was not acked is in the broker's `in_hand`."""

    def __init__(self, broker: "RedisQueues", queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout = timeout / 1000
        self._cache: deque[tuple[bytes, bytes, int]] = deque()
        self._short = False  # the last fetch found more than there was room for, or might have
        self._woken = broker.wakeups.event(queue_name)
        broker.recover(queue_name)

    def __next__(self) -> QueuedMessage | None:
        message = self._next_cached()
        if message is None and self._fetch():
            message = self._next_cached()
        if message is None:
            self._wait()
        return message

    def ack(self, message: Any) -> None:
        """Forget a message that is done, or put it off when it is to run again."""
        if message.again is None:
            self.broker.ack(self.queue_name, message.options["redis_message_id"])
        else:
            self.broker.postpone(*message.again)
        self._let_go([message])

    def nack(self, message: Any) -> None:
        error = message.error
        if error is None:
            exception = message._exception
            error = describe(exception) if exception is not None else "it was rejected"
        self.broker.bury(self.queue_name, message.options["redis_message_id"], error)
        self._let_go([message])

    def requeue(self, messages: Iterable[Any]) -> None:
        given = list(messages)
        self.broker.give_back(self.queue_name, [each.options["redis_message_id"] for each in given])
        self._let_go(given)

    def close(self) -> None:
        ids = [message_id for message_id, _, _ in self._cache]
        self._cache.clear()
        self.broker.give_back(self.queue_name, ids)

    def _let_go(self, messages: Iterable[Any]) -> None:
        hand = self.broker.in_hand(self.queue_name)
        for message in messages:
            redis_id = message.options["redis_message_id"]
            if hand.let_go(redis_id):
                # Nothing happens when the second delivery came before the ack, which then was for both.
                self._give_back_second(hand, redis_id)
        # Not at every ack: with the queue full, one fetch for half of the prefetch is far cheaper than one for each.
        if self._short and len(hand) <= self.prefetch // 2:
            self._woken.set()

    def _give_back_second(self, hand: Hand, redis_id: str) -> None:
        try:
            self.broker.give_back(self.queue_name, [redis_id])
        except BrokerConnectionError:
            # The ack is made again, and with it this.
            hand.take(redis_id)
            hand.take(redis_id)
            raise

    def _fetch(self) -> bool:
        # Cleared before looking: what arrives after that sets it again, and the wait ends at once.
        self._woken.clear()
        room = min(self.prefetch - len(self.broker.in_hand(self.queue_name)), MOST_AT_ONCE)
        if room <= 0 or self.broker.stopping:
            self._short = True
            return False
        self._cache.extend(self.broker.fetch(self.queue_name, room))
        self._short = len(self._cache) >= room
        return bool(self._cache)

    def _wait(self) -> None:
        if self.broker.stopping:
            # Woken for good; the thread has yet to be told to end.
            time.sleep(0.02)
        else:
            self._woken.wait(SAFETY_POLL if self.broker.wakeups.healthy else self.timeout)

    def _next_cached(self) -> QueuedMessage | None:
        hand = self.broker.in_hand(self.queue_name)
        while self._cache:
            key, data, deaths = self._cache.popleft()
            redis_id = key.decode(errors="replace")
            try:
                message = Message.decode(data)
                problem = unfit(message, self.queue_name, self.broker.actors)
            except DecodeError as error:
                problem = f"the message cannot be decoded: {bounded(repr(error.error))[:200]}"
            if problem is None:
                # The key it is stored under is the truth: acking any other would leave it in Redis for ever.
                message.options["redis_message_id"] = redis_id
                if hand.take(redis_id):
                    return QueuedMessage(message, deaths)
                continue
            log.error("message_unfit", queue=self.queue_name, redis_message_id=redis_id, error=problem)
            self.broker.bury(self.queue_name, key, problem)
        return None
