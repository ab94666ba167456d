"""Names of keys in Redis. Dramatiq's layout (its tools read our queues) except for what is delayed, and a few of ours.

An id is once in its queue's `messages`, and in one of `waiting`, `delayed` and a worker's `held`; or it is dead.
"""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue as one worker sees them."""

    waiting: str
    messages: str
    delayed: str
    held: str
    started: str
    deaths: str
    dead: str
    dead_messages: str
    dead_errors: str


@dataclass(frozen=True, slots=True)
class Keys:
    namespace: str

    @property
    def prefix(self) -> str:
        """What all keys begin with: a key itself to a user who may use no others."""
        return f"{self.namespace}:"

    @property
    def heartbeats(self) -> str:
        return f"{self.namespace}:__heartbeats__"

    @property
    def queues(self) -> str:
        """A set of the queues there are: Redis cannot be asked without walking through every key."""
        return f"{self.namespace}:__queues__"

    @property
    def lifetime(self) -> str:
        return f"{self.namespace}:__lifetime__"

    @property
    def wake(self) -> str:
        """The channel on which a queue's name is published when it got messages."""
        return f"{self.namespace}:wake"

    def queue(self, name: str, worker: str = "") -> QueueKeys:
        return _queue_keys(self.namespace, name, worker)


@lru_cache(maxsize=1024)
def _queue_keys(namespace: str, name: str, worker: str) -> QueueKeys:
    queue = f"{namespace}:{name}"
    return QueueKeys(
        waiting=queue,
        messages=f"{queue}.msgs",
        delayed=f"{queue}.delayed",
        held=f"{namespace}:__acks__.{worker}.{name}",
        started=f"{namespace}:__started__.{worker}.{name}",
        deaths=f"{queue}.deaths",
        dead=f"{queue}.XQ",
        dead_messages=f"{queue}.XQ.msgs",
        dead_errors=f"{queue}.XQ.errors",
    )
