"""The consumer of one queue in Redis: it sleeps until it is woken, and keeps account of what it holds."""

import heapq
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Consumer, MessageProxy
from dramatiq.common import current_millis
from dramatiq.errors import DecodeError
from dramatiq.message import Message

from .core import bounded, describe, unfit

if TYPE_CHECKING:
    from .broker import RedisQueues

log = structlog.get_logger(__name__)

# More at once would only make the script that fetches them hold up everybody else.
MOST_AT_ONCE = 500


class RedisMessage(MessageProxy):  # type: ignore[misc]
    """A message and how many workers died with it in their hands."""

    def __init__(self, message: Any, redeliveries: int) -> None:
        super().__init__(message)
        self.redeliveries = redeliveries
        self.error: str | None = None

    def __str__(self) -> str:
        # Dramatiq logs messages as text: ids tell enough, and the events are not for the log.
        return f"{self._message.actor_name} {self._message.message_id}"

    __repr__ = __str__


class RedisConsumer(Consumer):  # type: ignore[misc]
    """Gives out a queue's messages; what it gave out and was not acked is in the broker's `in_hand`."""

    def __init__(self, broker: "RedisQueues", queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout = timeout / 1000
        self.delayed = queue_name.endswith(".DQ")
        self._cache: deque[tuple[bytes, bytes, int]] = deque()
        self._etas: list[float] = []
        self._short = False  # the last fetch found more than there was room for, or might have
        self._woken = broker.wakeups.event(queue_name)
        if self.delayed:
            # The thread that waits for delayed messages forgets them when its connection breaks.
            broker.in_hand(queue_name).clear()
        broker.recover(queue_name)

    def __next__(self) -> RedisMessage | None:
        message = self._next_cached()
        if message is None and self._fetch():
            message = self._next_cached()
        if message is None:
            self._wait()
        return message

    def ack(self, message: Any) -> None:
        self.broker.ack(self.queue_name, message.options["redis_message_id"])
        self._let_go([message])

    def nack(self, message: Any) -> None:
        error = getattr(message, "error", None)
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

    def due_later(self) -> int:
        """How many delayed messages wait here for a time to come."""
        now = current_millis()
        return sum(1 for eta in list(self._etas) if eta > now)

    @property
    def full(self) -> bool:
        return len(self.broker.in_hand(self.queue_name)) >= self.prefetch

    def _let_go(self, messages: Iterable[Any]) -> None:
        held = self.broker.in_hand(self.queue_name)
        for message in messages:
            held.discard(message.options["redis_message_id"])
        # Not at every ack: with the queue full, one fetch for half of the prefetch is far cheaper than one for each.
        if self._short and len(held) <= self.prefetch // 2:
            self._woken.set()

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
            time.sleep(0.05)
            return
        seconds = self.timeout
        if self.delayed:
            now = current_millis()
            while self._etas and self._etas[0] <= now:
                heapq.heappop(self._etas)
            if self._etas:
                seconds = min(seconds, (self._etas[0] - now) / 1000)
        self._woken.wait(seconds)

    def _next_cached(self) -> RedisMessage | None:
        while self._cache:
            message_id, data, deaths = self._cache.popleft()
            name = message_id.decode(errors="replace")
            try:
                message = Message.decode(data)
                problem = unfit(message, self.queue_name, self.broker.actors)
            except DecodeError as error:
                problem = f"the message cannot be decoded: {bounded(repr(error.error))[:200]}"
            if problem is None:
                # The key it is stored under is the truth: acking any other would leave it in Redis for ever.
                message.options["redis_message_id"] = name
                self.broker.in_hand(self.queue_name).add(name)
                if self.delayed and isinstance(eta := message.options.get("eta"), int | float):
                    heapq.heappush(self._etas, eta)
                return RedisMessage(message, deaths)
            log.error("message_unfit", queue=self.queue_name, redis_message_id=name, error=problem)
            self.broker.bury(self.queue_name, message_id, problem)
        return None
