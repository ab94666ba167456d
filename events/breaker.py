"""A circuit breaker: who does not answer is left alone for a while, so that nobody waits for it in vain."""

import threading
import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Opens after `failures` failures in a row, for `open_seconds`; then one call at a time tries, and decides.

    Whoever was allowed says how it went. `on_change` hears the new state, outside of the lock. Thread-safe.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = 3,
        open_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[str, State], None] | None = None,
    ) -> None:
        self.name = name
        self._most = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._failures = 0
        # Open: when the next may try. Half open: when a trial that never said how it went is given up.
        self._until = 0.0

    @property
    def state(self) -> State:
        return self._state

    @property
    def refuses(self) -> bool:
        """Whether a call would not be allowed now; to ask begins no trial."""
        return not self._is_closed() and self._clock() < self._until

    def allow(self) -> bool:
        """Whether a call may be made now."""
        # Nearly always the case, and then it costs no lock.
        if self._is_closed():
            return True
        with self._lock:
            if self._is_closed():
                return True
            if self._clock() < self._until:
                return False
            changed = self._become("half_open")
            self._until = self._clock() + self._open_seconds
        self._tell(changed)
        return True

    def succeeded(self) -> None:
        if self._is_closed() and not self._failures:
            return
        with self._lock:
            self._failures = 0
            changed = self._become("closed")
        self._tell(changed)

    def failed(self, *, surely: bool = False) -> None:
        """`surely`: one such failure is enough."""
        with self._lock:
            self._failures += 1
            changed = False
            if surely or self._state == "half_open" or self._failures >= self._most:
                changed = self._become("open")
                self._until = self._clock() + self._open_seconds
        self._tell(changed)

    def _is_closed(self) -> bool:
        return self._state == "closed"

    def _become(self, state: State) -> bool:
        changed, self._state = state != self._state, state
        return changed

    def _tell(self, changed: bool) -> None:
        if changed and self._on_change is not None:
            self._on_change(self.name, self._state)
