"""Names of keys in Redis. Dramatiq's documented layout, so that its tools read our queues, and a few of ours."""

from dataclasses import dataclass
from functools import lru_cache

from dramatiq.common import q_name


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue (or delayed queue) as one worker sees them."""

    waiting: str
    messages: str
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
    def heartbeats(self) -> str:
        return f"{self.namespace}:__heartbeats__"

    @property
    def queues(self) -> str:
        """A set of the queues there are: Redis cannot be asked without walking through every key."""
        return f"{self.namespace}:__queues__"

    @property
    def wake(self) -> str:
        """The channel on which a queue's name is published when it got messages."""
        return f"{self.namespace}:wake"

    def queue(self, name: str, worker: str = "") -> QueueKeys:
        return _queue_keys(self.namespace, name, worker)


@lru_cache(maxsize=1024)
def _queue_keys(namespace: str, name: str, worker: str) -> QueueKeys:
    dead = f"{namespace}:{q_name(name)}.XQ"
    return QueueKeys(
        waiting=f"{namespace}:{name}",
        messages=f"{namespace}:{name}.msgs",
        held=f"{namespace}:__acks__.{worker}.{name}",
        started=f"{namespace}:__started__.{worker}.{name}",
        deaths=f"{namespace}:{name}.deaths",
        dead=dead,
        dead_messages=f"{dead}.msgs",
        dead_errors=f"{dead}.errors",
    )
