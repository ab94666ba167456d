"""Waiting for one's turn to ask a host."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

import structlog

from events.telemetry import NoTelemetry, Telemetry
from workers.leased.keeping import LEASE_SECONDS, Keeper

from .buckets import Buckets, BucketsUnavailableError, LocalBuckets
from .core import CallError, Kind
from .policies import Policy

log = structlog.get_logger(__name__)

# Seconds by which a lease may outlive its call's deadline: the answer may be on its way to us when it is given up.
_GRACE = 5.0
# Longest single wait.
_PIECE_SECONDS = 1.0
# Of what is owed, how many turns a call gives back before its own: it has a deadline.
_MOST_SETTLED = 20


class Turn:
    """The right to ask once. `hold`: seconds in which nobody is to ask that host again."""

    hold: float = 0.0


class _Queue:
    def __init__(self) -> None:
        # It knows whose it is.
        self.lock = threading.RLock()


class Gate:
    """Turns by the buckets that all processes share; while those are away, as each policy says."""

    def __init__(
        self,
        shared: Buckets,
        *,
        keeper: Keeper | None = None,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._shared = shared
        self._keeper = keeper or Keeper()
        self._local = LocalBuckets(clock)
        self._telemetry = telemetry or NoTelemetry()
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._queues: WeakValueDictionary[str, _Queue] = WeakValueDictionary()
        # Turns that ended while Redis was away, or may have been given too late: bucket, policy, lease, and until when
        # nobody is to ask.
        self._owed: deque[tuple[str, Policy, str, float]] = deque(maxlen=1_000)

    @contextmanager
    def turn(self, bucket: str, policy: Policy, until: float) -> Iterator[Turn]:
        """A turn before `until` (by the clock). Raises CallError as soon as it is certain that there will be none."""
        began, lease, turn = self._clock(), secrets.token_hex(8), Turn()
        buckets = self._wait(bucket, policy, lease, until)
        self._telemetry.observe("mbevents_http_wait_seconds", self._clock() - began, host=policy.name)
        self._keeper.keep(lease, lambda: self._renew(buckets, bucket, lease, until))
        try:
            yield turn
        finally:
            self._keeper.drop(lease)
            try:
                buckets.give_back(bucket, policy, lease, hold=turn.hold)
            except BucketsUnavailableError:
                # Its lease ends by itself, but until then it would keep everybody from this host.
                self._owed.append((bucket, policy, lease, self._clock() + turn.hold))
                log.debug("http_turn_not_given_back", host=policy.name)

    def _renew(self, buckets: Buckets, bucket: str, lease: str, until: float) -> bool:
        left = until + _GRACE - self._clock()
        return left > 0 and buckets.renew(bucket, lease, min(LEASE_SECONDS, left))

    def _wait(self, bucket: str, policy: Policy, lease: str, until: float) -> Buckets:
        # Of a process only the first in line asks, or hundreds of threads would ask Redis again and again.
        with self._lock:
            queue = self._queues.setdefault(bucket, _Queue())
        try:
            # In short pieces: a thread that is asked to end hears it between them.
            while not queue.lock.acquire(timeout=max(0.0, min(until - self._clock(), _PIECE_SECONDS))):
                if self._clock() >= until:
                    raise CallError(Kind.LIMITED, f"There was no turn to ask {policy.name} in time: too many want to.")
            while True:
                left = until - self._clock()
                buckets, wait = self._take(bucket, policy, lease, min(LEASE_SECONDS, left + _GRACE))
                if wait <= 0:
                    return buckets
                if wait >= left:
                    raise CallError(
                        Kind.LIMITED,
                        f"The next turn to ask {policy.name} is in {wait:.1f} s, which is too late for this call.",
                        retry_after=wait,
                    )
                self._sleep(min(wait, _PIECE_SECONDS))
        finally:
            # Ours also if it was asked to end at the very moment when it got it.
            with suppress(RuntimeError):
                queue.lock.release()

    def _take(self, bucket: str, policy: Policy, lease: str, seconds: float) -> tuple[Buckets, float]:
        try:
            self._settle()
            return self._shared, self._take_shared(bucket, policy, lease, seconds)
        except BucketsUnavailableError:
            rule = policy.without_redis
            self._telemetry.count("mbevents_http_turns_without_redis_total", host=policy.name, rule=rule)
            if rule == "closed":
                raise CallError(
                    Kind.LIMITED,
                    f"{policy.name} is not asked while the Redis of the limits does not answer: nobody knows how often "
                    "others ask. Check REDIS_LIMITS_URL.",
                ) from None
            return self._local, self._local.take(bucket, policy, lease, seconds)

    def _take_shared(self, bucket: str, policy: Policy, lease: str, seconds: float) -> float:
        try:
            return self._shared.take(bucket, policy, lease, seconds)
        except BucketsUnavailableError as away:
            if away.in_doubt:
                self._owed.append((bucket, policy, lease, self._clock()))
            raise

    def _settle(self) -> None:
        """Give back what could not be given back when it was due."""
        for _ in range(_MOST_SETTLED):
            try:
                owed = self._owed.popleft()
            except IndexError:
                return
            bucket, policy, lease, held = owed
            try:
                self._shared.give_back(bucket, policy, lease, hold=max(0.0, held - self._clock()))
            except BucketsUnavailableError:
                self._owed.appendleft(owed)
                raise
