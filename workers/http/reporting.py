"""Failures told once for each cause, however often they come."""

import threading
import time
from collections.abc import Callable

import structlog

from .core import CallError, Kind

log = structlog.get_logger(__name__)

# Seconds until the same is told again.
EVERY = 600.0
# These follow from what was told already, or are our own wish.
_CONSEQUENCES = frozenset({Kind.CIRCUIT_OPEN, Kind.LIMITED})


class Reporter:
    """Logs an error (and so reports it, where errors are reported) once for each cause in `every` seconds."""

    def __init__(self, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, float] = {}

    def tell(self, host: str, error: CallError) -> None:
        """`host` is a policy's name: neither URLs nor what came are told."""
        cause = f"{host}: {error.kind}"
        if error.kind in _CONSEQUENCES:
            return
        now = self._clock()
        with self._lock:
            if now - self._told.get(cause, float("-inf")) < self._every:
                return
            self._told[cause] = now
        log.error("http_call_failed", cause=cause, status=error.status)
