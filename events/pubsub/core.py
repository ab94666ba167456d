"""Where a follower is in the log: pure, so that no order of messages, losses and repetitions can matter."""

from collections.abc import Sequence

from events.errors import NotFoundError


class PositionLostError(NotFoundError):
    """Events that were still to be followed are no longer in the log; `first` and `last` are their positions."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(
            f"The events at the positions {first} to {last} are no longer in the log: they are older than "
            "EVENT_RETENTION_DAYS, and what changed then cannot be told. "
            f"Make what you keep anew from the database, then follow after {last}."
        )
        self.first = first
        self.last = last


class PositionAheadError(NotFoundError):
    """The log ends before the position to follow from."""

    def __init__(self, position: int, head: int) -> None:
        super().__init__(
            f"The log ends at position {head}, and {position} was asked for or reached before: this is another "
            "database, or it was restored. "
            f"Make what you keep anew from the database, then follow after {head}."
        )
        self.position = position
        self.head = head


def reached(after: int, head: int, kept: Sequence[int]) -> int:
    """The position up to which nothing is missing behind `after`.

    `kept`: positions in the log behind `after`, in order, at least one if there are any up to `head`. A hole further
    on is left for when it comes next. Raises PositionLostError when it does, and PositionAheadError.
    """
    if after > head:
        raise PositionAheadError(after, head)
    position = after
    for each in kept:
        if each != position + 1:
            break
        position = each
    if position == after < head:
        raise PositionLostError(after + 1, kept[0] - 1 if kept else head)
    return position
