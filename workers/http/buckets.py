"""Token buckets: one of all processes in Redis, and one of this process for when Redis is away."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Protocol

import redis

from events.errors import UnreachableError
from workers.leased.keeping import LEASE_SECONDS

from .core import MOST_RETRY_AFTER
from .policies import Policy


class BucketsUnavailableError(UnreachableError):
    """The Redis of the limits does not answer. `in_doubt`: it may yet do what it was told."""

    in_doubt = False


class Buckets(Protocol):
    """A token is spent from `take` on and begins to come back with `give_back`, or when its lease is over."""

    def take(self, bucket: str, policy: Policy, lease: str, seconds: float) -> float:
        """0: go, for at most `seconds`. Otherwise how long to wait before asking again."""
        ...

    def renew(self, bucket: str, lease: str, seconds: float) -> bool:
        """The lease stands for so long from now on. False when it did not."""
        ...

    def give_back(self, bucket: str, policy: Policy, lease: str, *, hold: float = 0) -> None:
        """`hold`: seconds in which nobody is to ask that host."""
        ...


class RedisBuckets:
    """Shared by all processes, by the server's clock. Raises BucketsUnavailableError."""

    def __init__(self, client: "redis.Redis", *, namespace: str) -> None:
        self._prefix = f"{namespace}:http:"
        self._take = client.register_script(_script("take"))
        self._renew = client.register_script(_script("renew"))
        self._give_back = client.register_script(_script("give_back"))

    def take(self, bucket: str, policy: Policy, lease: str, seconds: float) -> float:
        arguments: list[str | int] = [
            lease,
            _micros(seconds),
            _interval(policy),
            policy.burst,
            policy.concurrency,
            _micros(MOST_RETRY_AFTER),
            _micros(LEASE_SECONDS),
        ]
        with _told():
            wait = int(self._take(self._keys(bucket), arguments))
        return wait / 1e6 if wait >= 0 else landing(policy)

    def renew(self, bucket: str, lease: str, seconds: float) -> bool:
        with _told():
            return bool(self._renew(self._keys(bucket)[1:], [lease, _micros(seconds), _micros(LEASE_SECONDS)]))

    def give_back(self, bucket: str, policy: Policy, lease: str, *, hold: float = 0) -> None:
        with _told():
            self._give_back(self._keys(bucket), [lease, _interval(policy), _micros(hold)])

    def _keys(self, bucket: str) -> list[str]:
        # The braces keep both on one node of a cluster.
        return [f"{self._prefix}{{{bucket}}}:state", f"{self._prefix}{{{bucket}}}:leases"]


@dataclass(slots=True)
class _State:
    full: float = 0.0
    hold: float = 0.0
    leases: dict[str, float] = field(default_factory=dict)

    def is_idle(self, now: float) -> bool:
        return not self.leases and max(self.full, self.hold) <= now


class LocalBuckets:
    """The same within one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[str, _State] = {}

    def take(self, bucket: str, policy: Policy, lease: str, seconds: float) -> float:
        interval = _interval(policy) / 1e6
        with self._lock:
            now = self._clock()
            state = self._state(bucket, now)
            lost = [each for each, until in state.leases.items() if until <= now]
            for each in lost:
                del state.leases[each]
            full = state.full = max(state.full, now) + len(lost) * interval
            if state.hold > now:
                return state.hold - now
            flying = len(state.leases)
            if flying >= policy.concurrency or (interval and flying >= policy.burst):
                return landing(policy)
            wait = full - (policy.burst - 1 - flying) * interval - now
            if interval and wait > 0:
                return wait
            state.leases[lease] = now + seconds
            return 0

    def renew(self, bucket: str, lease: str, seconds: float) -> bool:
        with self._lock:
            state = self._states.get(bucket)
            if state is None or lease not in state.leases:
                return False
            state.leases[lease] = self._clock() + seconds
            return True

    def give_back(self, bucket: str, policy: Policy, lease: str, *, hold: float = 0) -> None:
        with self._lock:
            now = self._clock()
            state = self._state(bucket, now)
            if state.leases.pop(lease, None) is not None:
                state.full = max(state.full, now) + _interval(policy) / 1e6
            if hold > 0:
                state.hold = max(state.hold, now + hold)

    def _state(self, bucket: str, now: float) -> _State:
        if bucket not in self._states:
            # Hosts come and go: those that a new bucket would not differ from are dropped.
            self._states = {name: each for name, each in self._states.items() if not each.is_idle(now)}
            self._states[bucket] = _State()
        return self._states[bucket]


def landing(policy: Policy) -> float:
    """Seconds after which it is looked again whether one of those in flight has landed: a small part of what would be
    waited for then, and no burden on Redis."""
    return 0.02 if policy.rate is None else min(max(0.1 / policy.rate, 0.005), 0.05)


def _interval(policy: Policy) -> int:
    return 0 if policy.rate is None else _micros(1 / policy.rate)


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


def _script(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        away = BucketsUnavailableError(f"Redis of the limits: {type(error).__name__}: {error}")
        away.in_doubt = isinstance(error, redis.TimeoutError)
        raise away from error
