"""The backbone: what an event is, how it is derived, and the log, ledger, channels and queues that carry it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from events.pubsub.service import follow as follow


def __getattr__(name: str) -> Any:
    """`events.follow` is imported when it is asked for: the package itself costs nothing."""
    if name == "follow":
        from events.pubsub.service import follow

        return follow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
