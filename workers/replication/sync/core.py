"""What is decided while packets are fetched: where a token may go, what an answer means, what is kept. Pure."""

import json
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urljoin, urlsplit

from events.errors import MbeventsError
from workers.replication.packet import names

DEFAULT_BASE: Final = "https://metabrainz.org/api/musicbrainz"
# Of MusicBrainz's own; they were published with faults, and again without.
BROKEN: Final = frozenset({104949, *range(162718, 162725)})
MAX_REDIRECTS: Final = 5
# Packets of which a pass remembers what was done.
DETAILS: Final = 1000
# Waits before each try again, in seconds; and the longest that a server is obeyed for.
DELAYS: Final = (2.0, 5.0, 10.0)
LONGEST_DELAY: Final = 120.0
# The packet's own last change: without it the mirror would stay where it is.
CONTROL: Final = "musicbrainz.replication_control"

_PORTS = {"http": 80, "https": 443}
_TABLE = re.compile(r"[^.\s\"]+\.[^.\s\"]+")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class RefusedError(MbeventsError):
    """What a feed answers that cannot be gone along with."""


@dataclass(frozen=True, slots=True)
class Origin:
    scheme: str
    host: str
    port: int

    @property
    def is_private(self) -> bool:
        """Whether nobody on the way reads along."""
        return self.scheme == "https" or self.is_loopback

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Base:
    """Where a feed is: the address that `/replication-N-v2.tar.bz2` follows."""

    url: str
    origin: Origin


def parsed_base(text: str) -> Base:
    """Raises ValueError, which does not quote what was given: somebody may have put a token in it."""
    try:
        parts = urlsplit(text)
        origin = parsed_origin(text)
    except ValueError:
        raise ValueError(f"it must be a URL like {DEFAULT_BASE}") from None
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("it takes neither user nor query: the token belongs into REPLICATION_ACCESS_TOKEN")
    if not origin.is_private:
        raise ValueError(
            "it must begin with https://, or others could read the token; http:// is for this machine only"
        )
    return Base(text.rstrip("/"), origin)


@dataclass(frozen=True, slots=True)
class Hop:
    url: str
    with_token: bool


def next_hop(base: Base, url: str, location: str, *, hops: int, token: str | None) -> Hop:
    """Where a redirect leads, after `hops` others. Raises RefusedError."""
    if hops >= MAX_REDIRECTS:
        raise RefusedError(f"The feed at {base.origin} redirects over {MAX_REDIRECTS} times.")
    try:
        target = urljoin(url, location)
        origin = parsed_origin(target)
        parts = urlsplit(target)
    except ValueError:
        raise RefusedError(f"The feed at {base.origin} redirects to what is no address of the web.") from None
    if origin == base.origin:
        # Ours is put in anew: once only, whatever is there.
        query = "&".join(each for each in parts.query.split("&") if each and not each.startswith("token="))
        return Hop(parts._replace(query=query, fragment="").geturl(), with_token=True)
    if origin.scheme != "https" and not (origin.is_loopback and base.origin.is_loopback):
        raise RefusedError(f"The feed at {base.origin} redirects to {origin} without TLS, which is refused.")
    if token and token in location:
        raise RefusedError(f"The feed at {base.origin} would give the access token away to {origin}.")
    return Hop(parts._replace(fragment="").geturl(), with_token=False)


class Verdict(Enum):
    """What is done about an answer."""

    WHOLE = "the body from its beginning"
    REST = "the body from where ours ends"
    MISSING = "it is not there"
    AGAIN = "try again"
    AFRESH = "throw away what is there, and try again"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says before the body. `elsewhere`: not the feed itself, but where it sent us."""

    origin: Origin
    status: int
    elsewhere: bool = False
    etag: str | None = None
    length: int | None = None
    content_range: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """What is here of a file, and what was said of it then."""

    size: int = 0
    etag: str | None = None
    total: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Asks for the rest, where that is safe: a weak tag does not say that bytes are the same."""
        if not self.size or self.etag is None or self.etag.startswith("W/"):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.etag}


def verdict(answer: Answer, begun: Begun, *, has_token: bool) -> Verdict:
    """What to do about an answer to a request with `begun.headers`. Raises RefusedError."""
    status = answer.status
    if status == 200:
        return Verdict.WHOLE
    if status in (206, 416) and begun.headers:
        return Verdict.REST if status == 206 and _continues(answer, begun) else Verdict.AFRESH
    if status == 404 and not answer.elsewhere:
        return Verdict.MISSING
    # An address that the feed gives out is good for a while only; the next try gets another.
    if answer.elsewhere or status in (408, 425, 429) or status >= 500:
        return Verdict.AGAIN
    if status in (400, 401, 403):
        raise RefusedError(_of_token(answer.origin, status, has_token))
    raise RefusedError(f"The feed at {answer.origin} answers with status {status}, which makes no sense here.")


def _continues(answer: Answer, begun: Begun) -> bool:
    found = _RANGE.fullmatch(answer.content_range or "")
    if found is None or int(found[1]) != begun.size:
        return False
    if answer.etag is not None and answer.etag != begun.etag:
        return False
    return begun.total is None or found[3] in ("*", str(begun.total))


def _of_token(origin: Origin, status: int, has_token: bool) -> str:
    if not has_token:
        return (
            f"The feed at {origin} wants an access token (status {status}): set REPLICATION_ACCESS_TOKEN. "
            "For MetaBrainz's, get one at https://metabrainz.org/profile."
        )
    return (
        f"The feed at {origin} does not take the access token (status {status}): check REPLICATION_ACCESS_TOKEN; "
        "it may be mistyped, revoked, or another feed's."
    )


def newest_of(info: bytes) -> int | None:
    """The number in a feed's `{"last_packet": …}`, -1 for null; None for anything else."""
    try:
        last = json.loads(info)["last_packet"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if last is None:
        return -1
    found = names.parse(last) if isinstance(last, str) else None
    return None if found is None else found[0]


def is_check(body: bytes) -> bool:
    """Whether it is what a feed's replication-check answers, in whatever state it is."""
    return body.split(None, 1)[:1] in ([b"OK"], [b"UNKNOWN"], [b"WARNING"], [b"CRITICAL"])


def length_of(header: str | None) -> int | None:
    """Content-Length as a number; None where it says nothing that can be checked."""
    return int(header) if header is not None and header.isdigit() and len(header) < 19 else None


def retry_delay(attempt: int, retry_after: str | None) -> float | None:
    """Seconds to wait before try number `attempt` + 1 (the first is 0); None when it is enough."""
    if attempt >= len(DELAYS):
        return None
    asked = float(retry_after) if retry_after is not None and re.fullmatch(r"\d{1,6}", retry_after) else 0.0
    return None if asked > LONGEST_DELAY else max(DELAYS[attempt], asked)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which tables a mirror keeps: all, or those named; without those that are ignored."""

    ignored_schemas: frozenset[str] = frozenset()
    ignored_tables: frozenset[str] = frozenset()
    kept_tables: frozenset[str] = frozenset()

    def wanted(self, name: str) -> bool:
        """`name` as packets have it, `schema.table` with quotes where they are needed."""
        plain = name.replace('"', "")
        if plain == CONTROL:
            return True
        if self.kept_tables and plain not in self.kept_tables:
            return False
        return plain not in self.ignored_tables and plain.partition(".")[0] not in self.ignored_schemas

    def parted(self, skipped: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Of changes that were skipped, by table: those that are not wanted, and those that have no table here."""
        ignored = {name: count for name, count in skipped.items() if not self.wanted(name)}
        return ignored, {name: count for name, count in skipped.items() if name not in ignored}

    def unknown(self, tables: Collection[str]) -> list[str]:
        """What is named and not there: tables, and schemas without any."""
        there = {name.replace('"', "") for name in tables}
        schemas = {name.partition(".")[0] for name in there}
        wrong = sorted((self.ignored_tables | self.kept_tables) - there)
        return [f"schema {name}" for name in sorted(self.ignored_schemas - schemas)] + wrong


def parsed_filters(*, ignore_schemas: str | None, ignore_tables: str | None, keep_tables: str | None) -> Filters:
    """From lists with commas. Raises ValueError."""
    return Filters(listed(ignore_schemas), listed_tables(ignore_tables), listed_tables(keep_tables))


def listed_tables(text: str | None) -> frozenset[str]:
    """Raises ValueError."""
    found = listed(text)
    if not all(map(_TABLE.fullmatch, found)):
        raise ValueError("it must be a list of tables with their schemas: musicbrainz.artist,statistics.statistic")
    return found


def listed(text: str | None) -> frozenset[str]:
    return frozenset(each.strip().replace('"', "") for each in (text or "").split(",") if each.strip())


def parsed_origin(url: str) -> Origin:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError
    return Origin(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])


# How a pass ends. Stopped: it was asked to end, which is no fault.
Outcome = Literal["applied", "stopped", "failed", "version_mismatch"]


@dataclass(slots=True)
class Pass:
    """What one pass did: from the mirror's sequence to the feed's newest, or until it was ended."""

    first: int = 0
    last: int = 0
    packets: int = 0
    changes: int = 0
    events: int = 0
    diverged: int = 0
    one_by_one: int = 0
    seconds: float = 0.0
    hooks_failed: int = 0
    # The last of these.
    hook_problem: str | None = None
    up_to_date: bool = False
    # 0 with all that the feed has, else the age of the last packet.
    lag_seconds: float | None = None
    # What was done of each packet, as JSON tells it: of the last ones, for a pass of weeks has many.
    details: deque[Mapping[str, object]] = field(default_factory=lambda: deque(maxlen=DETAILS))

    def add(self, later: "Pass") -> None:
        """Another pass after this one."""
        self.first = self.first or later.first
        for name in ("packets", "changes", "events", "diverged", "one_by_one", "hooks_failed", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.last, self.up_to_date, self.lag_seconds = later.last, later.up_to_date, later.lag_seconds
        self.hook_problem = later.hook_problem or self.hook_problem
        self.details.extend(later.details)

    @property
    def news(self) -> str | None:
        """What is kept of a pass that did not fail, for who asks later."""
        if self.hook_problem is None or self.hooks_failed == 1:
            return self.hook_problem
        return f"{self.hook_problem} {self.hooks_failed:,} hooks failed in all."

    def to_dict(self) -> Mapping[str, object]:
        return {
            "from": self.first,
            "to": self.last,
            "packets": self.packets,
            "changes": self.changes,
            "events": self.events,
            "diverged": self.diverged,
            "one_by_one": self.one_by_one,
            "hooks_failed": self.hooks_failed,
            "seconds": round(self.seconds, 3),
            "up_to_date": self.up_to_date,
            "lag_seconds": self.lag_seconds,
            "details": list(self.details),
        }


def span(seconds: float) -> str:
    """For people."""
    units: list[tuple[float, str, Callable[[float], str]]] = [
        (86400, "d", lambda n: f"{n:.1f}"),
        (3600, "h", lambda n: f"{n:.1f}"),
        (60, "min", lambda n: f"{n:.0f}"),
    ]
    for size, unit, form in units:
        if seconds >= size:
            return f"{form(seconds / size)} {unit}"
    return f"{max(0.0, seconds):.1f} s"
