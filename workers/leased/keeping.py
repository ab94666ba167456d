"""Leases that stand while their holders live, and end soon after: one thread of the process renews them."""

import threading
import time
from collections.abc import Callable

import structlog

from events.errors import UnreachableError

from .adapters import RedisLeased
from .core import Lease, Loaded
from .service import Taken

log = structlog.get_logger(__name__)

# Seconds that a lease stands without its holder, and between two renewals.
LEASE_SECONDS = 10.0
EVERY = 3.0

Renew = Callable[[], bool]
"""False: there is nothing to renew any more. May raise UnreachableError."""


class Keeper:
    """The thread is there while there is something to keep."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._lock = threading.Lock()
        self._kept: dict[str, Renew] = {}
        self._works = False

    def keep(self, lease: str, renew: Renew) -> None:
        """From now on until `drop`, or until `renew` says that it is over."""
        with self._lock:
            self._kept[lease] = renew
            if self._works:
                return
            try:
                threading.Thread(target=self._work, name="lease-keeper", daemon=True).start()
            except RuntimeError as error:
                # Too many threads, or this process ends: the lease stands for as long as it was taken for.
                log.warning("lease_not_kept", error=str(error))
                return
            self._works = True

    def drop(self, lease: str) -> None:
        with self._lock:
            self._kept.pop(lease, None)

    def _work(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self._every)
            with self._lock:
                if not self._kept:
                    self._works = False
                    return
                kept = list(self._kept.items())
            for lease, renew in kept:
                try:
                    if not renew():
                        self.drop(lease)
                except UnreachableError:
                    log.debug("lease_not_renewed")


class KeptLeased:
    """A store whose leases are kept for loads of at most `longest` seconds. Whoever is killed meanwhile keeps the
    others waiting no longer than the store's own, short, leases stand."""

    def __init__(self, leased: RedisLeased, *, longest: float, keeper: Keeper | None = None) -> None:
        self._leased = leased
        self._longest = longest
        self._keeper = keeper or Keeper()
        self.read = leased.read
        self.forget = leased.forget

    def lease(self, name: str, *, anew: bool = False) -> Taken:
        taken = self._leased.lease(name, anew=anew)
        if taken.lease is not None:
            lease, end = taken.lease, time.monotonic() + self._longest
            self._keeper.keep(lease.token, lambda: time.monotonic() < end and self._leased.renew(name, lease))
        return taken

    def store(self, name: str, lease: Lease, loaded: Loaded, *, seconds: float, cost: float) -> bool:
        self._keeper.drop(lease.token)
        return self._leased.store(name, lease, loaded, seconds=seconds, cost=cost)

    def give_back(self, name: str, lease: Lease) -> None:
        self._keeper.drop(lease.token)
        self._leased.give_back(name, lease)
