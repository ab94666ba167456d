"""Errors that are told to people: what happened, to what, and what to do."""

from typing import ClassVar


class MbeventsError(Exception):
    """Base of every error of ours; its text is shown to a person as it is, and the process exits with `exit_code`."""

    exit_code: ClassVar[int] = 1


class UsageError(MbeventsError):
    """What was asked for does not make sense; nothing was done."""

    exit_code = 2


class VersionMismatchError(MbeventsError):
    """A schema, message or packet of a version that this release does not know."""

    exit_code = 3


class NotFoundError(MbeventsError):
    """What was named does not exist."""

    exit_code = 4


class PartlyDoneError(MbeventsError):
    """Some of what was asked for was done, and the rest was not."""

    exit_code = 5


class UnreachableError(MbeventsError):
    """A server that is needed does not answer."""

    exit_code = 6
