"""What the queues tell of themselves."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reaped:
    """Dead workers found, messages returned to their queues, and buried; dead messages that are in the broker now."""

    workers: int = 0
    returned: int = 0
    buried: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Corpse:
    """A dead message still in the broker, and why it died; `key` is what the broker knows it by."""

    queue: str
    key: bytes
    data: bytes
    error: str

    @property
    def delivery_id(self) -> str:
        """Names this one death."""
        return self.key.decode(errors="backslashreplace").replace("\0", "\\0")


@dataclass(frozen=True, slots=True)
class Depth:
    """Messages of a queue: waiting, in progress, delayed, dead and not yet in Postgres; seconds the oldest waits."""

    waiting: int
    in_progress: int
    delayed: int
    dead: int
    oldest_seconds: float
