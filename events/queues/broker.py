"""Dramatiq's queues on Redis, made quick (woken, in bulk) and safe (each message is accounted for)."""

import threading
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast

import dramatiq
import orjson
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message
from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.retry import Retry

from events.catalogue import SLOW_QUEUES
from events.masters import OF_MASTER, Master

from .consumer import Hand, RedisConsumer
from .core import redis_id
from .encoder import MessageEncoder, encode_message
from .keys import Keys
from .suspects import Suspects
from .threads import Pulse, Wakeups
from .types import Corpse, Depth, Reaped

CHUNK_MESSAGES = 500
# One message may hold 500 events: bytes bound what one script call keeps everybody else waiting for.
CHUNK_BYTES = 1_000_000
# A worker beats every second; several missed in a row are more than a pause.
HEARTBEAT_TIMEOUT_MS = 6_000
SCRIPTS = (
    "enqueue", "fetch", "ack", "bury", "postpone", "give_back", "pulse", "leave", "reap", "exists", "open", "lifetime",
)  # fmt: skip


@dataclass(slots=True)
class _Chunk:
    messages: list[Any]
    pairs: list[str | bytes]
    size: int = 0


def connect_redis(url: str) -> "redis.Redis":
    """A client for the broker. It never repeats a command: a fetch whose answer was lost must not be made twice."""
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 5, "max_connections": 1_000}
    if not url.startswith("unix:"):
        options |= {"socket_keepalive": True, "socket_connect_timeout": 3}
    options |= parse_url(url)  # type: ignore[no-untyped-call]
    kind = OF_MASTER[options.pop("connection_class", Connection)]
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, master=Master(), **options))


class RedisQueues(RedisBroker):  # type: ignore[misc]
    """Dramatiq's Redis broker with our own commands on its key layout.

    Delayed messages wait in Redis, not in a worker. `heartbeat_timeout` is in milliseconds. Built-in maintenance is
    off: the `Reaper` does it.
    """

    # `idle` is one look at one moment.
    looks_until_idle = 1
    slow_queues: Collection[str] = SLOW_QUEUES

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "MB",
        middleware: Sequence[dramatiq.Middleware] | None = None,
        heartbeat_timeout: int = HEARTBEAT_TIMEOUT_MS,
    ) -> None:
        self.stopping = False
        self.keys = Keys(namespace)
        self._in_hand: dict[str, Hand] = defaultdict(Hand)
        super().__init__(
            client=connect_redis(url),
            middleware=[Suspects(), *(middleware or ())],
            namespace=namespace,
            maintenance_chance=0,
            heartbeat_timeout=heartbeat_timeout,
        )
        # Dramatiq's encoder is one for the whole process.
        dramatiq.set_encoder(MessageEncoder())
        package = files("events.queues")
        self._scripts = {
            name: self.client.register_script(package.joinpath(f"{name}.lua").read_bytes()) for name in SCRIPTS
        }
        self.wakeups = Wakeups(self.client, self.keys.wake)
        self._pulse = Pulse(self._beat)
        self.alone = threading.Lock()

    def declare_queue(self, queue_name: str) -> None:
        # Without the delayed queue that Dramatiq would make a thread for.
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue that no worker has yet."""
        keys = self.keys.queue(queue_name)
        with _closed_on_error():
            self.client.delete(keys.waiting, keys.messages, keys.delayed, keys.deaths)

    # Sending

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """Enqueue one message; `delay` in milliseconds. Ledgered work that is queued or in progress stays as it is."""
        self.enqueue_many([message], delay=delay)
        return message

    def enqueue_many(self, messages: Iterable[Any], *, delay: int | None = None) -> int:
        """Enqueue in bulk; how many were new. Each queue gets its messages in their order."""
        fresh = 0
        chunks: dict[str, _Chunk] = {}
        # Two calls through every middleware for each message cost more than all the rest.
        hooked = self._hooked("before_enqueue")
        for given in messages:
            message = _prepared(given, redis_id(given.options), delay)
            if hooked:
                self.emit_before("enqueue", message, delay)
            data = encode_message(message)
            chunk = chunks.get(message.queue_name)
            if chunk is None:
                chunk = chunks[message.queue_name] = _Chunk([], [])
            chunk.messages.append(message)
            chunk.pairs += (message.options["redis_message_id"], data)
            chunk.size += len(data)
            if len(chunk.messages) >= CHUNK_MESSAGES or chunk.size >= CHUNK_BYTES:
                fresh += self._put(message.queue_name, chunk, delay)
                del chunks[message.queue_name]
        for queue_name, chunk in chunks.items():
            fresh += self._put(queue_name, chunk, delay)
        return fresh

    def _put(self, queue_name: str, chunk: _Chunk, delay: int | None) -> int:
        keys = self.keys.queue(queue_name)
        fresh = self._run(
            "enqueue",
            [keys.waiting, keys.messages, keys.delayed, self.keys.queues],
            [queue_name, self.keys.wake, -1 if delay is None else max(0, delay), *chunk.pairs],
        )
        if delay is not None:
            self._pulse.soon()
        if self._hooked("after_enqueue"):
            for message in chunk.messages:
                self.emit_after("enqueue", message, delay)
        return cast(int, fresh)

    def _hooked(self, hook: str) -> bool:
        nothing = getattr(dramatiq.Middleware, hook)
        return any(getattr(type(each), hook) is not nothing for each in self.middleware)

    # Receiving

    @property
    def consumer_class(self) -> type[RedisConsumer]:
        return RedisConsumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> RedisConsumer:
        self._pulse.start()
        return RedisConsumer(self, queue_name, 1 if queue_name in self.slow_queues else prefetch, timeout)

    def in_hand(self, queue_name: str) -> Hand:
        """Ids of what this process got from a queue and has not finished."""
        return self._in_hand[queue_name]

    def fetch(self, queue_name: str, count: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Id, data and number of deaths of up to `count` messages, which this worker holds from now on."""
        keys = self.keys.queue(queue_name, self.broker_id)
        found = self._run(
            "fetch",
            [keys.waiting, keys.messages, keys.held, keys.deaths, self.keys.heartbeats, self.keys.queues],
            [count, self.broker_id, queue_name],
        )
        return zip(found[::3], found[1::3], map(int, found[2::3]), strict=True)

    def ack(self, queue_name: str, redis_message_id: str) -> None:
        keys = self.keys.queue(queue_name, self.broker_id)
        self._run("ack", [keys.held, keys.messages, keys.deaths, keys.started], [redis_message_id])

    def postpone(self, message: Any, delay: int) -> None:
        """Let a message that this worker holds run again, as it is now, after `delay` milliseconds."""
        message = _prepared(message, message.options["redis_message_id"], delay)
        self.emit_before("enqueue", message, delay)
        keys = self.keys.queue(message.queue_name, self.broker_id)
        self._run(
            "postpone",
            [keys.held, keys.messages, keys.deaths, keys.started, keys.delayed, self.keys.queues],
            [message.queue_name, message.options["redis_message_id"], encode_message(message), max(0, delay)],
        )
        self._pulse.soon()
        self.emit_after("enqueue", message, delay)

    def bury(self, queue_name: str, redis_message_id: str | bytes, error: str) -> None:
        """Put a message that this worker holds among the dead ones; the reaper takes it to Postgres."""
        keys = self.keys.queue(queue_name, self.broker_id)
        dead = [keys.dead, keys.dead_messages, keys.dead_errors]
        self._run(
            "bury",
            [keys.held, keys.messages, keys.deaths, keys.started, *dead],
            [redis_message_id, error.encode(errors="replace")],
        )

    def give_back(self, queue_name: str, ids: Sequence[str | bytes]) -> None:
        """Put messages that were not started back at the head of their queue."""
        keys = self.keys.queue(queue_name, self.broker_id)
        # The last first: each part goes before what is there.
        for start in reversed(range(0, len(ids), CHUNK_MESSAGES)):
            self._run(
                "give_back",
                [keys.waiting, keys.messages, keys.held],
                [queue_name, self.keys.wake, *ids[start : start + CHUNK_MESSAGES]],
            )

    def recover(self, queue_name: str) -> None:
        """Give back what Redis thinks we hold and we never heard of: the answer to its fetch was lost."""
        with _closed_on_error():
            held = self.client.smembers(self.keys.queue(queue_name, self.broker_id).held)
        hand = self.in_hand(queue_name)
        self.give_back(queue_name, sorted(each for each in held if each.decode(errors="replace") not in hand))

    def mark_started(self, queue_name: str, redis_message_id: str) -> None:
        """Say that work on a message begins, so that a death of this worker counts against it."""
        with _closed_on_error():
            self.client.sadd(self.keys.queue(queue_name, self.broker_id).started, redis_message_id)

    def stop_fetching(self) -> None:
        """What is in hand may be finished; nothing new is taken."""
        self.stopping = True
        self.wakeups.wake_all()

    def close(self) -> None:
        self.stop_fetching()
        self.wakeups.stop()
        if self._pulse.stop():
            # Without Redis nobody can be told; its reaper finds out.
            with suppress(ConnectionClosed):
                self._run("leave", [self.keys.prefix], [self.broker_id])
        self.client.close()

    def _beat(self) -> float:
        """Say that this worker lives, and move what is due; seconds until more is."""
        left = self._run("pulse", [self.keys.prefix], [self.broker_id, CHUNK_MESSAGES])
        return float("inf") if left < 0 else left / 1000

    # Looking after the queues

    def reap(self, *, max_redeliveries: int) -> Reaped:
        """Return or bury what dead workers held. Atomic: any number of callers may do it at once."""
        return Reaped(*self._run("reap", [self.keys.prefix], [self.heartbeat_timeout, max_redeliveries]))

    def corpses(self, limit: int = 100) -> list[Corpse]:
        """Up to `limit` dead messages that are still in Redis."""
        found: list[Corpse] = []
        with _closed_on_error():
            for queue_name in self.known_queues():
                if len(found) >= limit:
                    break
                keys = self.keys.queue(queue_name)
                ids = cast("list[bytes]", self.client.zrange(keys.dead, 0, limit - 1))
                if not ids:
                    continue
                data = self.client.hmget(keys.dead_messages, ids)
                errors = self.client.hmget(keys.dead_errors, ids)
                for one, body, error in zip(ids, data, errors, strict=True):
                    told = error.decode(errors="replace") if error else "it was rejected"
                    found.append(Corpse(queue=queue_name, key=one, data=body or b"", error=told))
        return found

    def forget(self, corpses: Collection[Corpse]) -> None:
        """Remove dead messages that are safe in Postgres."""
        with _closed_on_error(), self.client.pipeline(transaction=True) as pipe:
            for corpse in corpses:
                keys = self.keys.queue(corpse.queue)
                pipe.zrem(keys.dead, corpse.key)
                pipe.hdel(keys.dead_messages, corpse.key)
                pipe.hdel(keys.dead_errors, corpse.key)
            pipe.execute()

    def has_messages(self, queue_name: str, task_ids: Sequence[int]) -> list[bool]:
        """For each task whether a message of it waits, is delayed, in progress or dead in Redis."""
        keys = self.keys.queue(queue_name)
        answers: list[bool] = []
        for start in range(0, len(task_ids), CHUNK_MESSAGES):
            ids = task_ids[start : start + CHUNK_MESSAGES]
            answers += map(bool, self._run("exists", [keys.messages, keys.dead_messages], ids))
        return answers

    def lifetime(self) -> str:
        """Names the time since Redis last lost its data: it changes with FLUSHALL and with a restart."""
        return cast(bytes, self._run("lifetime", [self.keys.lifetime], [uuid.uuid4().hex])).decode()

    def known_queues(self) -> list[str]:
        """Every queue that ever held a message or is declared here."""
        with _closed_on_error():
            stored = {each.decode() for each in self.client.smembers(self.keys.queues)}
        return sorted(stored | self.get_declared_queues())

    def depths(self) -> dict[str, Depth]:
        """How much is in each queue."""
        names = self.known_queues()
        with _closed_on_error(), self.client.pipeline(transaction=True) as pipe:
            for name in names:
                keys = self.keys.queue(name)
                pipe.llen(keys.waiting)
                pipe.hlen(keys.messages)
                pipe.zcard(keys.delayed)
                pipe.zcard(keys.dead)
                pipe.lindex(keys.waiting, 0)
            rows = iter(pipe.execute())
            depths: dict[str, Depth] = {}
            for name in names:
                waiting, stored, delayed, dead, first = (next(rows) for _ in range(5))
                data = self.client.hget(self.keys.queue(name).messages, first) if first else None
                depths[name] = Depth(waiting, max(0, stored - waiting - delayed), delayed, dead, _age(data))
        return depths

    def idle(self, queue_names: Collection[str], worker: Any) -> bool:  # noqa: ARG002 (RabbitMQ must ask the worker)
        """Nothing waits, is due or is in this worker's hands."""
        return not self._run("open", [self.keys.prefix], [self.broker_id, *sorted(queue_names)])

    def _run(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        with _closed_on_error():
            return self._scripts[script](keys=keys, args=args)


def _prepared(message: Any, key: str, delay: int | None) -> Any:
    """A copy with what the queues and their watchers note in its options."""
    return Message(
        message.queue_name,
        message.actor_name,
        message.args,
        message.kwargs,
        {
            **message.options,
            "redis_message_id": key,
            # From when on it waits to be worked on: a retry has been delayed on purpose.
            "queued_at": current_millis() + (delay or 0),
        },
        message.message_id,
        message.message_timestamp,
    )


@contextmanager
def _closed_on_error() -> Iterator[None]:
    """Every trouble with Redis (also a timeout, a full memory, a replica) is one that workers wait out."""
    try:
        yield
    except redis.RedisError as error:
        raise ConnectionClosed(f"Redis: {type(error).__name__}: {error}") from error


def _age(data: bytes | None) -> float:
    try:
        fields = orjson.loads(data or b"")
        since = fields["options"].get("queued_at", fields["message_timestamp"])
        return max(0.0, float(current_millis() - since) / 1000)
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0.0
