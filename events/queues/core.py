"""Decisions about messages: their ids, when a failed one runs again, what is told of an error. Nothing here waits."""

import random
import re
import traceback
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

MESSAGE_VERSION = 1
MAX_RETRIES = 10
MIN_BACKOFF_MS = 1_000
MAX_BACKOFF_MS = 600_000
ERROR_LIMIT = 8_000

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


class Fields(Protocol):
    """What is looked at of a message."""

    @property
    def queue_name(self) -> Any: ...
    @property
    def actor_name(self) -> Any: ...
    @property
    def kwargs(self) -> Any: ...
    @property
    def options(self) -> Any: ...
    @property
    def message_id(self) -> Any: ...


def redis_id(options: Mapping[str, Any]) -> str:
    """The id of a message in Redis: the task's for ledgered work, so that it is there once however often it is sent."""
    task_id = options.get("task_id")
    return str(uuid.uuid4()) if task_id is None else str(task_id)


def malformed(message: Fields) -> str | None:
    """What makes a decoded message none that could run anywhere; None when it is one."""
    for name, kind in (("message_id", str), ("queue_name", str), ("actor_name", str), ("kwargs", dict)):
        if not isinstance(getattr(message, name), kind):
            return f"the message's {name} is not a {kind.__name__}"
    options = message.options
    if not isinstance(options, dict):
        return "the message's options is not a dict"
    # What our own middleware counts with; a bool is no number here.
    for name, most in (("retries", 10**6), ("refusals", 10**6), ("task_id", 2**63 - 1)):
        value = options.get(name, 0)
        if type(value) is not int or not 0 <= value <= most:
            return f"the message's option {name} is not a number from 0 to {most}"
    return None


def unfit(message: Fields, queue_name: str, actors: Collection[str]) -> str | None:
    """Why a decoded message cannot be given to an actor; None when it can."""
    problem = malformed(message)
    if problem is not None:
        return problem
    if message.queue_name != queue_name:
        return f"the message names another queue than {queue_name}, in which it was found"
    if message.actor_name not in actors:
        return f"no actor is called {message.actor_name[:100]!r}; it needs a release that has it, or be discarded"
    return None


def unknown_version(kwargs: Mapping[str, Any], supported: Collection[int]) -> str | None:
    """Why a message's version cannot be read; None when it can, or when its kind has no versions."""
    version = kwargs.get("version")
    if version is None or (isinstance(version, int) and version in supported):
        return None
    known = ", ".join(map(str, sorted(supported)))
    return f"the message has version {str(version)[:20]!r}; this release knows {known}: retry it on one that knows it"


def backoff_ms(retries: int, *, least: int = MIN_BACKOFF_MS, most: int = MAX_BACKOFF_MS) -> int:
    """How long to wait before retry number `retries` (from 0): full jitter below a doubling limit, at least `least`."""
    limit = min(most, least * 2 ** min(retries + 1, 30))
    return int(random.uniform(least, max(least, limit)))


def describe(error: BaseException) -> str:
    """An error for the dead letters: type, message and traceback of it and of its causes, without anybody's data."""
    told = "\n\nCaused by ".join(_one(each) for each in _chain(error))
    if len(told) <= ERROR_LIMIT:
        return told
    return f"{told[: ERROR_LIMIT // 2]}\n…\n{told[-ERROR_LIMIT // 2 + 3 :]}"


def bounded(text: str) -> str:
    """Text from elsewhere, as it may be kept: without e-mail addresses and NULs, and not endless."""
    return _EMAIL.sub("<e-mail>", text[:ERROR_LIMIT]).replace("\0", "\N{REPLACEMENT CHARACTER}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[int] = []
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(seen) < 4:
        seen.append(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _one(error: BaseException) -> str:
    # PostgreSQL puts whole rows into DETAIL and CONTEXT; its primary message names only tables and columns.
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    message = bounded(primary or str(error))[:2_000]
    frames: Sequence[str] = traceback.format_tb(error.__traceback__, limit=-15)
    return bounded(f"{type(error).__qualname__}: {message}\n{''.join(frames)}".rstrip())
