"""The two threads beside a worker's own: one hears that messages arrived, one says that the process lives."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable

import redis
import structlog
from dramatiq.errors import BrokerConnectionError

log = structlog.get_logger(__name__)

PULSE_SECONDS = 1.0
PING_SECONDS = 5.0


class Wakeups:
    """Sets a consumer's event when its queue got messages. Only a hint: a consumer looks by itself now and then."""

    def __init__(self, client: "redis.Redis", channel: str, *, ping_seconds: float = PING_SECONDS) -> None:
        self._client = client
        self._channel = channel
        self._ping_seconds = ping_seconds
        self._events: dict[str, threading.Event] = defaultdict(threading.Event)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._heard_at = float("-inf")

    @property
    def healthy(self) -> bool:
        """Whether somebody who waits here would be told."""
        return time.monotonic() - self._heard_at < 2 * self._ping_seconds

    def event(self, queue_name: str) -> threading.Event:
        """The event of a queue; the first call starts to listen."""
        with self._lock:
            if self._thread is None:
                # A daemon: it may sit in a read that nobody answers, and must not hold up the end of the process.
                self._thread = threading.Thread(target=self._run, name="queue-wakeups", daemon=True)
                self._thread.start()
            return self._events[queue_name]

    def wake(self, queue_name: str) -> None:
        event = self._events.get(queue_name)
        if event is not None:
            event.set()

    def wake_all(self) -> None:
        with self._lock:
            events = list(self._events.values())
        for event in events:
            event.set()

    def stop(self) -> None:
        self._stopped.set()
        self.wake_all()
        if self._thread is not None:
            try:
                self._client.publish(self._channel, "")  # so that our own listener looks up
                self._thread.join(1.0)
            except redis.RedisError:
                pass

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError, ValueError) as error:
                self._heard_at = float("-inf")
                # Whoever waits long, because all seemed well, goes back to looking by itself.
                self.wake_all()
                log.info("queue_wakeups_disconnected", error=type(error).__name__)
                self._stopped.wait(0.5)

    def _listen(self) -> None:
        with self._client.pubsub() as listener:  # type: ignore[no-untyped-call]
            listener.subscribe(self._channel)
            self._heard_at = time.monotonic()
            while not self._stopped.is_set():
                message = listener.get_message(timeout=self._ping_seconds)
                if message is None:
                    # Nothing for a while: a server that went away without a word is found out by asking.
                    if not self.healthy:
                        raise redis.ConnectionError("no answer to a ping")
                    listener.ping()
                    continue
                self._heard_at = time.monotonic()
                if message["type"] == "subscribe":
                    # Whatever came while nobody listened.
                    self.wake_all()
                elif message["type"] == "message":
                    self.wake(bytes(message["data"]).decode(errors="replace"))


class Pulse:
    """Calls `beat` every second, however busy the process's threads are; sooner when it asks to be (in seconds)."""

    def __init__(self, beat: Callable[[], float], *, seconds: float = PULSE_SECONDS) -> None:
        self._beat = beat
        self._seconds = seconds
        self._stopped = False
        self._again = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="queue-pulse", daemon=True)
                self._thread.start()

    def soon(self) -> None:
        """Beat now, and find out anew when to beat next."""
        self._again.set()

    def stop(self) -> bool:
        """End it; whether it had been started."""
        self._stopped = True
        self._again.set()
        if self._thread is None:
            return False
        self._thread.join(1.0)
        return True

    def _run(self) -> None:
        while not self._stopped:
            self._again.clear()
            wait = self._seconds
            try:
                wait = min(wait, self._beat())
            except BrokerConnectionError as error:
                log.info("queue_pulse_failed", error=str(error))
            self._again.wait(wait)
