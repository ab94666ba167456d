"""Single flight within a process: of threads that want the same at once, one works and the others take what it got."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """One piece of work that others may wait for. The one who works calls `depart` before the work begins, and `close`
    before what it got is certain."""

    def __init__(self, close: "Callable[[Flight[T]], None]") -> None:
        self._close = close
        self._landed = threading.Event()
        self._result: tuple[T] | None = None
        self._certain = False
        self.departed = False

    def depart(self) -> None:
        """Who joined until now asked before the work began: what it finds is true for them, whatever comes."""
        self.departed = True

    def close(self) -> None:
        """Nobody joins any more: whoever comes now may know of a change that this work did not see."""
        self._close(self)

    @property
    def ended(self) -> bool:
        return self._landed.is_set()

    def land(self, result: T, *, certain: bool = True) -> None:
        """Give the others what was found. `certain`: it is true for all who joined, not only for who did in time."""
        self._certain = certain
        self._result = (result,)

    def wait(self, seconds: float, *, early: bool = False) -> tuple[T] | None:
        """What the other one got; None if that is nothing for us, or not in time. `early`: we joined before it
        departed."""
        self._landed.wait(seconds)
        return self._result if self._certain or early else None

    def end(self) -> None:
        self._close(self)
        self._landed.set()


class Flights(Generic[T]):
    """The flights under way, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, Flight[T]] = {}

    def join(self, name: str) -> tuple[Flight[T], bool]:
        """The flight of that name, and whether it is the caller's own, who must `end` it."""
        with self._lock:
            flight = self._flights.get(name)
            if flight is not None:
                return flight, False
            flight = self._flights[name] = Flight(lambda ended: self._leave(name, ended))
            return flight, True

    def _leave(self, name: str, flight: Flight[T]) -> None:
        with self._lock:
            if self._flights.get(name) is flight:
                del self._flights[name]
