"""Events of a message that make no sense to the actor that got them."""

from collections.abc import Sequence

from events.errors import MbeventsError

# A hostile message may have 500.
_TOLD = 3


class InvalidEventsError(MbeventsError):
    """Some of a message's events make no sense; what the others asked for was done. No retry would change it."""


def refuse(problems: Sequence[str]) -> None:
    """Raises InvalidEventsError if there are problems: after what the other events ask for was done."""
    if problems:
        more = len(problems) - _TOLD
        told = "; ".join(problems[:_TOLD]) + (f"; and {more} more" if more > 0 else "")
        raise InvalidEventsError(
            f"{len(problems)} of the message's events make no sense ({told}); the others are done. "
            "Look where they come from; then discard the message, or retry it with a release that knows them."
        )
