"""Listens to the channels, in a thread: whatever Redis does or does not do, nobody waits for it."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import redis

from events.channels import canary_channel, event_channel
from events.telemetry import NoTelemetry, Telemetry

# How long it takes at most to notice that it is to stop.
_SLICE = 0.25
_FIRST_PAUSE = 0.1
# What is not in the log may be lost anyhow: nobody has to keep more of it than this for who does not come for it.
_MOST_KEPT = 1_000
_MOST_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. `poll`: how long the log is not looked at when nothing is heard. `ask`: between two canaries;
    `deaf`: how long one may take before the path counts as dead; `longest_pause`: between two tries to connect."""

    poll: float = 1.0
    ask: float = 5.0
    deaf: float = 2.0
    longest_pause: float = 5.0


class Listener:
    """Sets `woken` whenever something is published; connects again for as long as it is not closed.

    `names`: types of events (None: all); the bodies of those in `kept` are kept until they are taken. `client` must
    not decode. What happened to the connection is in `news`, for people.
    """

    def __init__(
        self,
        client: "redis.Redis",
        *,
        namespace: str,
        names: Collection[str] | None,
        kept: Collection[str],
        timing: Timing,
        stopped: Callable[[], bool],
        telemetry: Telemetry | None = None,
    ) -> None:
        self.woken = threading.Event()
        self.news: deque[str] = deque(maxlen=100)
        self._client = client
        self._channels = None if names is None else [event_channel(namespace, name) for name in names]
        self._pattern = event_channel(namespace, "*")
        self._kept = {event_channel(namespace, name).encode() for name in kept}
        self._bodies: deque[bytes] = deque(maxlen=_MOST_KEPT)
        self._canary = canary_channel(namespace, token_hex(8))
        self._timing = timing
        self._stopped = stopped
        self._telemetry = telemetry or NoTelemetry()
        # Messages so far.
        self.heard = 0
        self._closed = threading.Event()
        self._away = False
        self._pause = _FIRST_PAUSE
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Returns at once; a thread that waits for Redis ends when that answers or times out."""
        self._closed.set()
        self._thread.join(2 * _SLICE)

    def take(self) -> list[bytes]:
        """The bodies kept since the last time."""
        return [self._bodies.popleft() for _ in range(len(self._bodies))]

    def _run(self) -> None:
        while not self._ends():
            try:
                with self._client.pubsub() as path:  # type: ignore[no-untyped-call]
                    self._listen(path)
            # Nothing that comes over a connection may end this thread, whatever the client makes of it.
            except Exception as error:
                self._went_away(error)
                self._closed.wait(self._pause * random.uniform(0.5, 1))
                self._pause = min(self._timing.longest_pause, self._pause * 2)
        self.woken.set()

    def _ends(self) -> bool:
        return self._closed.is_set() or self._stopped()

    def _listen(self, path: Any) -> None:
        if self._channels is None:
            path.psubscribe(self._pattern)
        elif self._channels:
            path.subscribe(*self._channels)
        # Last: when this one is confirmed, so are the others.
        path.subscribe(self._canary)
        canary = self._canary.encode()
        waiting: float | None = time.monotonic()
        due = float("inf")
        while not self._ends():
            if waiting is None and time.monotonic() >= due:
                self._ask()
                waiting = time.monotonic()
            message = path.get_message(timeout=_SLICE)
            if message is None:
                if waiting is not None and time.monotonic() - waiting > self._timing.deaf:
                    self._telemetry.count("mbevents_follower_canaries_lost_total")
                    raise redis.ConnectionError(f"nothing is heard of what is published, for {self._timing.deaf:g} s")
            elif message["channel"] != canary:
                if message["type"] in ("message", "pmessage"):
                    self._heard(message["channel"], message["data"])
            elif message["type"] == "subscribe":
                waiting, due = None, time.monotonic()
                self.woken.set()
            else:
                waiting, due = None, time.monotonic() + self._timing.ask
                self._came_back()

    def _ask(self) -> None:
        """Publish the canary as a newcomer would: over a connection of now. After a failover, one that is open may
        still lead to the server of before, as the one that we listen on does."""
        pool = self._client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            connection.connect()
            connection.send_command("PUBLISH", self._canary, b"")
            connection.read_response()
        finally:
            connection.disconnect()

    def _heard(self, channel: bytes, body: bytes) -> None:
        if channel in self._kept and len(body) <= _MOST_BYTES:
            self._bodies.append(body)
        self.heard += 1
        self.woken.set()

    def _went_away(self, error: Exception) -> None:
        self._telemetry.gauge("mbevents_follower_listening", 0)
        if not self._away:
            self._away = True
            self.news.append(
                f"Redis cannot be listened to ({type(error).__name__}): "
                f"until it can, the log is read every {self._timing.poll:g} s."
            )
            self.woken.set()

    def _came_back(self) -> None:
        self._pause = _FIRST_PAUSE
        self._telemetry.gauge("mbevents_follower_listening", 1)
        if self._away:
            self._away = False
            self._telemetry.count("mbevents_follower_reconnects_total")
            self.news.append("Redis is back.")
            self.woken.set()
