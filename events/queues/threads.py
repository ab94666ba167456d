"""The two threads beside a worker's own: one hears that messages arrived, one says that the process lives."""

import threading
from collections import defaultdict
from collections.abc import Callable

import redis
import structlog

from .keys import Keys

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 1.0


class Wakeups:
    """Sets a consumer's event when its queue got messages. Only a hint: a consumer looks by itself now and then."""

    def __init__(self, client: "redis.Redis", keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._events: dict[str, threading.Event] = defaultdict(threading.Event)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

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
        for event in list(self._events.values()):
            event.set()

    def stop(self) -> None:
        self._stopped.set()
        self.wake_all()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._listen()
            except (redis.RedisError, OSError, ValueError) as error:
                log.info("queue_wakeups_disconnected", error=type(error).__name__)
                self._stopped.wait(0.5)

    def _listen(self) -> None:
        with self._client.pubsub() as listener:  # type: ignore[no-untyped-call]
            listener.subscribe(self._keys.wake)
            while not self._stopped.is_set():
                message = listener.get_message(timeout=5.0)
                if message is None:
                    # Nothing for a while: a server that went away without a word is found out by asking.
                    listener.ping()
                elif message["type"] == "subscribe":
                    # Whatever came while nobody listened.
                    self.wake_all()
                elif message["type"] == "message":
                    self.wake(bytes(message["data"]).decode(errors="replace"))


class Heartbeat:
    """Says every second that this process lives, however busy its threads are."""

    def __init__(self, beat: Callable[[], object], seconds: float = HEARTBEAT_SECONDS) -> None:
        self._beat = beat
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="queue-heartbeat", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while True:
            try:
                self._beat()
            except (redis.RedisError, OSError) as error:
                log.info("queue_heartbeat_failed", error=type(error).__name__)
            if self._stopped.wait(self._seconds):
                return
