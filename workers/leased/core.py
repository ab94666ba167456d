"""What an entry is, and when it is due. Entries are text for the scripts beside this file, which read the header too.

An entry is valid while it is of the store's epoch and none of its tags was invalidated after `as_of`, a number of the
store's own clock that goes up with every invalidation of a tag. The epoch is random and new whenever Redis has lost it,
or is not for certain the server that it was: then nothing that was stored before counts, whatever was lost beside it.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_PRESENT, _ABSENT = b"+", b"-"
_FIELDS = 5
# How many tags an entry may have: each is looked at when it is read.
MOST_TAGS = 500


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load found: bytes, or None for "there is none", which is kept too.

    `tags`: what it depends on, known before or only now. `seconds`: how long it is fresh (None: as the cache says);
    for `stale_seconds` more it may be served while one caller loads it anew, or when that fails.
    """

    body: bytes | None
    tags: tuple[str, ...] = ()
    seconds: float | None = None
    stale_seconds: float = 0.0

    def __post_init__(self) -> None:
        if len(self.tags) > MOST_TAGS or any(not is_tag(tag) for tag in self.tags):
            raise ValueError(f"an entry has at most {MOST_TAGS} tags, of printable ASCII without spaces")


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that is there and valid. `left`: seconds until it is no longer fresh, negative when it is stale;
    `cost`: seconds that its load took; `age`: seconds since it was stored."""

    body: bytes | None
    tags: tuple[str, ...]
    cost: float
    left: float
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of an entry: the clock's `number` when it was last invalidated or first used, None when it is gone."""

    name: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Inspected:
    """What there is of a name, whether it counts or not. `void`: why `entry` does not, None if it is valid or not
    there. `lease_left`: seconds that somebody's lease stands."""

    epoch: str | None
    number: int
    entry: Found | None
    as_of: int | None
    tags: tuple[Tag, ...]
    void: str | None
    lease_left: float | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to store one entry; void once the entry was invalidated, or another holds it."""

    token: str
    epoch: str
    as_of: int


def is_due(found: Found, rand: float) -> bool:
    """Whether to load it anew before it is stale: at random (0 < rand <= 1), likelier the nearer the end is and the
    longer a load takes, so that of many readers one is early instead of all late (XFetch)."""
    return found.left + found.cost * math.log(rand) <= 0


def encode(lease: Lease, loaded: Loaded, *, seconds: float, cost: float) -> bytes:
    """The entry of what was loaded under this lease and is fresh for so many seconds."""
    times = (str(_ms(each)) for each in (cost, loaded.stale_seconds, seconds))
    header = (lease.epoch, str(lease.as_of), *times, *loaded.tags)
    kind, body = (_ABSENT, b"") if loaded.body is None else (_PRESENT, loaded.body)
    return " ".join(header).encode() + b"\n" + kind + body


def decode(raw: bytes, left_ms: int) -> Found | None:
    """An entry that the scripts found valid, with the milliseconds that Redis keeps it. None for what we did not
    write."""
    header, newline, rest = raw.partition(b"\n")
    fields = header.decode("ascii", "replace").split(" ")
    if not newline or len(fields) < _FIELDS or rest[:1] not in (_PRESENT, _ABSENT):
        return None
    try:
        cost, stale, fresh = (int(field) for field in fields[2:_FIELDS])
    except ValueError:
        return None
    body = rest[1:] if rest[:1] == _PRESENT else None
    tags = tuple(fields[_FIELDS:])
    return Found(body, tags, cost / 1000, (left_ms - stale) / 1000, (fresh + stale - left_ms) / 1000)


def why_void(of: str, as_of: int, tags: Iterable[Tag], epoch: str | None) -> str | None:
    """Why an entry does not count; None if it does. As `live.lua` decides."""
    if of != epoch:
        return f"its epoch {of} ended: Redis was restarted, emptied or replaced, or its clock was set back"
    for tag in tags:
        if tag.number is None:
            return f"its tag {tag.name} is gone: Redis threw it away"
        if tag.number > as_of:
            return f"its tag {tag.name} was invalidated at {tag.number}, after the entry's {as_of}"
    return None


def is_tag(text: str) -> bool:
    """Whether it may be a tag."""
    return 0 < len(text) <= 200 and text.isascii() and text.isprintable() and " " not in text


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


Load = Callable[[], Loaded]
"""Reads the truth as it is now: never a copy that lags."""
