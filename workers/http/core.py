"""What an outside call comes to, and what is decided on the way: tried again, held back, sent elsewhere."""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import httpx
import orjson

from events.errors import MbeventsError, UsageError

TRIES = 3
REDIRECTS = 5
# Seconds: a server that asks for more is asked again after that, but not by this call.
MOST_RETRY_AFTER = 300.0
SEED_AGENT = "MusicBrainz/1.0 (https://musicbrainz.org)"

_BACKOFF_BASE, _BACKOFF_MOST = 0.5, 8.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_PASSING_STATUS = frozenset({429, 502, 503, 504})
_ABSENT_STATUS = frozenset({404, 410})
_REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
_MEDIAWIKI_THROTTLING = frozenset({"maxlag", "ratelimited"})
# MediaWiki's refusals are short; what is longer is not parsed to look for one.
_MOST_REFUSAL = 1 << 16
_MEDIAWIKI_CODE = re.compile(r"[\w:-]{1,80}", re.ASCII)
# All else that a caller sends may be a secret (Authorization, Cookie, X-Api-Key …), and stays with its origin.
_ANYBODYS_HEADERS = frozenset({"accept", "accept-language", "if-none-match", "if-modified-since", "range"})
_BODY_HEADERS = frozenset({"content-type", "content-length", "content-encoding", "content-language"})
_WIKIMEDIA = ("wikipedia.org", "wikidata.org", "wikimedia.org")
_SECONDS = re.compile(r"[0-9]+")


class Kind(StrEnum):
    """Why there is no answer."""

    BAD_URL = "bad_url"
    """A user's URL that is none, or not one that users may give."""
    UNIDENTIFIED = "unidentified"
    """A live Wikimedia service, and OPERATOR_CONTACT is not set."""
    LIMITED = "limited"
    """No turn within the deadline, or nobody to ask for one."""
    CIRCUIT_OPEN = "circuit_open"
    """The host failed too often just now; it was not asked."""
    DNS = "dns"
    FORBIDDEN_ADDRESS = "forbidden_address"
    """A user's URL leads to an address that is not public."""
    CONNECTION = "connection"
    """Refused, reset, or closed before an answer."""
    TLS = "tls"
    TIMEOUT = "timeout"
    """The server said nothing for too long."""
    DEADLINE = "deadline"
    """The call as a whole took too long."""
    PROTOCOL = "protocol"
    """What came is not HTTP, or its headers are too large."""
    TRUNCATED = "truncated"
    """The connection ended before the body did."""
    BAD_LENGTH = "bad_length"
    """More came than Content-Length says."""
    BAD_ENCODING = "bad_encoding"
    TOO_LARGE = "too_large"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    FORBIDDEN_REDIRECT = "forbidden_redirect"
    THROTTLED = "throttled"
    """429, or MediaWiki's maxlag or ratelimited."""
    API_ERROR = "api_error"
    """MediaWiki answers an error, with status 200."""
    STATUS_3XX = "status_3xx"
    """A redirect to nowhere."""
    STATUS_4XX = "status_4xx"
    STATUS_5XX = "status_5xx"


# What may pass by itself. TRUNCATED and TIMEOUT are connection errors that came later.
_PASSING = frozenset({Kind.CONNECTION, Kind.DNS, Kind.TIMEOUT, Kind.TRUNCATED, Kind.THROTTLED})
# The host's own fault, which its circuit breaker counts.
BREAKING = frozenset(
    {Kind.CONNECTION, Kind.DNS, Kind.TLS, Kind.TIMEOUT, Kind.DEADLINE, Kind.PROTOCOL, Kind.TRUNCATED, Kind.STATUS_5XX}
)


@dataclass(frozen=True, slots=True)
class Answer:
    """2xx, 304, or 404 and 410, which say that there is nothing.

    `headers` by lower-case name; `url` is where it came from, after redirects. `cached`: no request was made for this
    caller; `stale`: it is older than was asked for, because it is being renewed or cannot be.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    cached: bool = False
    stale: bool = False

    @property
    def found(self) -> bool:
        return self.status not in _ABSENT_STATUS

    def json(self) -> Any:
        """Raises ValueError."""
        return orjson.loads(self.body)


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer. `url` is without its query; `retry_after`: seconds until asking again makes sense, where known."""

    kind: Kind
    message: str
    url: str
    status: int | None = None
    retry_after: float | None = None


Outcome = Answer | Failure


class CallError(MbeventsError):
    """Carries a failure to where it becomes an outcome; callers never see it."""

    def __init__(
        self, kind: Kind, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.retry_after = retry_after

    def again(self) -> "CallError":
        """The same for another thread, with a traceback of its own."""
        return CallError(self.kind, self.message, status=self.status, retry_after=self.retry_after)

    def failure(self, url: str) -> Failure:
        return Failure(self.kind, self.message, url, self.status, self.retry_after)


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` are the caller's own."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def host(self) -> str:
        return host_of(self.url)

    @property
    def name(self) -> str:
        """The same for requests that have the same answer; it tells nothing of them."""
        headers = sorted((name.lower(), value) for name, value in self.headers.items())
        told = orjson.dumps([self.method, str(self.url), headers])
        return blake2b(told, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said, whatever it means; the body is decoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def parsed_url(text: str) -> httpx.URL:
    """Raises UsageError."""
    try:
        url = httpx.URL(text)
        host = url.raw_host
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        # What is wrong may be a part of a password, and is not quoted.
        why = re.sub(r"['\"].*", "…", str(error), flags=re.DOTALL)
        raise UsageError(f"This is no URL ({why}).") from None
    if url.scheme not in {"http", "https"} or not host:
        raise UsageError("It must be a URL that begins with https:// (or http://) and names a host.")
    if b"%" in host:
        # What a host may not have, encoded; or a zone (fe80::1%eth0), which is of this machine and may be any text.
        raise UsageError("Its host must be a name or an address.")
    if not 0 < port_of(url) < 1 << 16:
        raise UsageError("Its port must be a number from 1 to 65535.")
    if url.userinfo:
        raise UsageError("A URL must not hold a user or a password: put them into the Authorization header.")
    return url


def host_of(url: httpx.URL) -> str:
    """For comparing: `en.wikipedia.org.` is `en.wikipedia.org`."""
    return url.raw_host.decode("ascii").lower().rstrip(".")


def told(url: httpx.URL) -> str:
    """A URL as it may be logged and shown: queries hold tokens, and what is encoded may be a terminal's commands."""
    path, _, _ = url.raw_path.partition(b"?")
    return f"{url.scheme}://{url.netloc.decode('ascii')}{path.decode('ascii')}"


def matches(host: str, pattern: str) -> bool:
    """Whether a host is the pattern's; `*.wikipedia.org` is wikipedia.org too."""
    if pattern.startswith("*."):
        return host == pattern[2:] or host.endswith(pattern[1:])
    return host == pattern


def is_wikimedia(host: str) -> bool:
    return any(matches(host, f"*.{domain}") for domain in _WIKIMEDIA)


def agent(version: str, contact: str | None) -> str:
    """The User-Agent: the seed's, or in the form of Wikimedia's policy with the operator's own contact."""
    if contact is None:
        return SEED_AGENT
    return f"mbevents/{version} ({contact}) httpx/{httpx.__version__}"


def with_maxlag(request: Request, maxlag: int | None) -> Request:
    """MediaWiki's API refuses background work while its replicas lag more than these seconds, if it is told."""
    url = request.url
    if maxlag is None or not url.path.endswith("/api.php") or re.search(rb"(?:^|&)maxlag=", url.query):
        return request
    query = b"&".join(part for part in (url.query, b"maxlag=%d" % maxlag) if part)
    return replace(request, url=url.copy_with(query=query))


def is_idempotent(method: str) -> bool:
    return method in _IDEMPOTENT


def retry_delay(
    error: CallError, tries: int, *, left: float, uniform: Callable[[float, float], float] = random.uniform
) -> float | None:
    """Seconds until an idempotent call is tried again after `tries` of them; None: not again within `left` seconds."""
    if tries >= TRIES or not (error.kind in _PASSING or error.status in _PASSING_STATUS):
        return None
    delay = uniform(0, min(_BACKOFF_BASE * 2**tries, _BACKOFF_MOST))
    if error.retry_after is not None:
        # Not all at the very moment that was named.
        delay += error.retry_after
    return delay if delay < left else None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After asks for, as a number or a date; None if it makes no sense."""
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), MOST_RETRY_AFTER)
    at = _date(value)
    return None if at is None else min(max((at - now).total_seconds(), 0.0), MOST_RETRY_AFTER)


def _date(value: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def check(reply: Reply, now: datetime, *, mediawiki: bool = False) -> None:
    """Raises CallError for replies that are failures, also where the status is 200: of MediaWiki's API any error, of
    others only what may as well be one of its."""
    status = reply.status
    # By the server's own clock, if it tells it: ours may be another.
    wait = retry_after(reply.headers.get("retry-after"), _date(reply.headers.get("date")) or now)
    if status == 429:
        raise CallError(Kind.THROTTLED, "The server asks for fewer requests (429).", status=status, retry_after=wait)
    if status >= 500:
        raise CallError(Kind.STATUS_5XX, f"The server answers {status}.", status=status, retry_after=wait)
    if status >= 400 and status not in _ABSENT_STATUS:
        raise CallError(Kind.STATUS_4XX, f"The server refuses the request ({status}).", status=status)
    if not (200 <= status < 300 or status == 304 or status in _ABSENT_STATUS):
        raise CallError(Kind.STATUS_3XX, f"The server answers {status}, which leads nowhere.", status=status)
    codes = _error_codes(reply) if status == 200 else []
    for code in codes:
        if code in _MEDIAWIKI_THROTTLING:
            raise CallError(
                Kind.THROTTLED, f"MediaWiki answers {code} instead of what was asked.", status=status, retry_after=wait
            )
    if mediawiki and codes:
        raise CallError(Kind.API_ERROR, f"MediaWiki answers the error {codes[0]}.", status=status)


def _error_codes(reply: Reply) -> list[str]:
    """MediaWiki's codes, which stand in a body with status 200 in one of two forms."""
    body = reply.body
    if len(body) > _MOST_REFUSAL or b'"error' not in body or "json" not in reply.headers.get("content-type", ""):
        return []
    try:
        document = orjson.loads(body)
    except ValueError:
        return []
    if not isinstance(document, dict):
        return []
    several = document.get("errors")
    errors = (document.get("error"), *(several if isinstance(several, list) else ()))
    codes = (error.get("code") for error in errors if isinstance(error, dict))
    return [code for code in codes if isinstance(code, str) and _MEDIAWIKI_CODE.fullmatch(code)]


def is_redirect(reply: Reply) -> bool:
    return reply.status in _REDIRECT_STATUS and "location" in reply.headers


def redirected(request: Request, reply: Reply, *, hops: int, allowed: Callable[[str], bool]) -> Request:
    """The request that a redirect leads to, after `hops` others. `allowed` says of a host whether one may go there.

    Raises CallError.
    """
    if hops >= REDIRECTS:
        raise CallError(Kind.TOO_MANY_REDIRECTS, f"It leads on and on: {REDIRECTS} redirects were followed.")
    try:
        url = parsed_url(str(request.url.join(_location(reply))))
    except (UsageError, httpx.InvalidURL, UnicodeError, ValueError):
        raise CallError(Kind.FORBIDDEN_REDIRECT, "It leads to what is no web address.") from None
    if request.url.scheme == "https" and url.scheme != "https":
        raise CallError(Kind.FORBIDDEN_REDIRECT, f"It leads from https to http ({told(url)}).")
    if not allowed(host_of(url)):
        raise CallError(Kind.FORBIDDEN_REDIRECT, f"It leads to {host_of(url)}, which is not among the allowed hosts.")
    kept = {name.lower() for name in request.headers}
    if _origin(url) != _origin(request.url):
        kept &= _ANYBODYS_HEADERS | _BODY_HEADERS
    method, body = request.method, request.body
    # 301 and 302 by what everybody does with POST, 303 by what it says.
    if (reply.status == 303 and method != "HEAD") or (reply.status in {301, 302} and method == "POST"):
        method, body = "GET", b""
        kept -= _BODY_HEADERS
    headers = {name: value for name, value in request.headers.items() if name.lower() in kept}
    return Request(method, url, headers, body)


def _location(reply: Reply) -> str:
    """Servers that do not encode it mean UTF-8."""
    value = reply.headers["location"]
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, host_of(url), port_of(url)


def port_of(url: httpx.URL) -> int:
    return {"http": 80, "https": 443}[url.scheme] if url.port is None else url.port
