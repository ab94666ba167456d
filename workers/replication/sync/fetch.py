"""Packets over HTTP: streamed into the spool, gone on with where they broke off, never beyond what is allowed."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import structlog

from events.errors import MbeventsError, UnreachableError
from events.telemetry import Telemetry
from workers.replication.packet import names
from workers.replication.sync import core
from workers.replication.sync.core import Answer, Base, Hop, Verdict
from workers.replication.sync.spool import Spool

log = structlog.get_logger(__name__)

T = TypeVar("T")

_REDIRECTS = (301, 302, 303, 307, 308)
_INFO = "replication-info"
_CHECK = "replication-check"
# How far a folder that lists nothing is searched for packets beyond one that it has not.
_BEYOND = 3
_SMALL_BYTES = 1 << 16
# Less than this within the time of a stall is one.
_LEAST_BYTES = 4096


class StoppedError(Exception):
    """We were asked to end meanwhile."""


class SpoolError(MbeventsError):
    """There is no room for a packet, or no way to it."""


class Fetched(NamedTuple):
    """A packet in the spool. `signature` is None where the feed has none, or none was asked for."""

    number: int
    path: Path
    signature: Path | None


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """`most_bytes`: the largest packet that is taken; `stall`: seconds without data until a server is given up;
    `signed`: whether signatures are fetched too."""

    agent: str
    most_bytes: int
    stall: float = 30.0
    signed: bool = False


class _AgainError(Exception):
    """This try came to nothing; the text says why."""

    def __init__(self, why: str, retry_after: str | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after

    @classmethod
    def of(cls, answer: Answer) -> "_AgainError":
        return cls(f"{answer.origin} answers with status {answer.status}", answer.retry_after)


class Feed:
    """One feed and one token, which goes to that feed's own host only. Used by one thread, ended by another.

    `say` is told of each try that came to nothing, but the last one's error."""

    def __init__(
        self,
        base: Base,
        token: str | None,
        spool: Spool,
        options: FeedOptions,
        telemetry: Telemetry,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.base = base
        self._token = token
        self._spool = spool
        self._options = options
        self._ended = threading.Event()
        self._telemetry = telemetry
        self._say = say
        self._current: httpx.Response | None = None
        self._client = httpx.Client(
            timeout=httpx.Timeout(options.stall, connect=10.0),
            # bzip2 does not get smaller, and what is noted and compared are the file's own bytes.
            headers={"User-Agent": options.agent, "Accept-Encoding": "identity"},
            # A proxy of the environment would read what goes out in the clear.
            trust_env=base.origin.scheme == "https",
        )

    def end(self) -> None:
        """From another thread: wakes who waits here, also for a server that says nothing."""
        self._ended.set()
        response = self._current
        if response is not None:
            found = response.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):
                # Of a TLS socket too the plain one's: nobody waits for the other side to agree.
                socket.socket.shutdown(found, socket.SHUT_RDWR)

    def close(self) -> None:
        self._client.close()

    def packet(self, number: int, *, afresh: bool = False) -> Fetched | None:
        """Packet `number`, of version 2 if there is one; None if the feed has none yet.

        Raises UnreachableError, core.RefusedError (also where the feed has later ones, but not this, and where there
        is no feed), SpoolError, StoppedError.
        """
        if afresh:
            self._spool.drop_packet(number)
        try:
            return self._packet(number)
        except OSError as error:
            raise SpoolError(f"Packet {number} could not be kept in the spool: {error.strerror or error}.") from error

    def _packet(self, number: int) -> Fetched | None:
        found = self._version(number, 2)
        if found is not None:
            return found
        newest = self._newest()
        if newest is not None and newest < number:
            return None
        # Published since we asked, or of version 1 only, or it is not known what there is. Version 1 has no old rows,
        # so that no events come of it: version 2 is asked for once more, for it may have come before that.
        older = self._version(number, 1)
        newer = None if older is None and newest is None else self._version(number, 2)
        if (found := newer or older) is not None:
            return found
        if newest is None:
            newest = self._newest_without_info(number)
        if newest < number:
            return None
        raise core.RefusedError(
            f"The feed at {self.base.origin} has packet {newest}, but not {number}, which is next for this mirror: it "
            "is too far behind for this feed, or the packet was lost. Take it from another feed (--base-url), or set "
            "the mirror up anew from a full dump. Nothing of what follows was applied."
        )

    def _newest_without_info(self, number: int) -> int:
        """A packet of a feed that does not say which is its newest; below `number` if nothing speaks for more.

        Any web server answers 404 below a wrong address: that is "no more" only from what is seen to be a feed.
        """
        for later in range(number + 1, number + 1 + _BEYOND):
            if self._there(later):
                return later
        if self._there(number - 1) or core.is_check(self._small(_CHECK) or b""):
            return number - 1
        raise core.RefusedError(
            f"There is no feed at {self.base.url}, as far as can be seen: neither packet {number} nor {number - 1} is "
            f"there, and no {_INFO} or {_CHECK} that a feed has. Is the address right, with its path (--base-url or "
            f"REPLICATION_BASE_URL, as {core.DEFAULT_BASE})? Nothing was applied."
        )

    def _there(self, number: int) -> bool:
        """Whether the feed has a packet, which is not fetched."""
        return any(self._tried(names.packet_name(number, version), self._look) for version in (2, 1))

    def _look(self, name: str) -> bool:
        with self._opened(name, {}) as (_, answer):
            what = core.verdict(answer, core.Begun(), has_token=self._token is not None)
            if what is Verdict.AGAIN:
                raise _AgainError.of(answer)
            return what is not Verdict.MISSING

    def _version(self, number: int, version: int) -> Fetched | None:
        name = names.packet_name(number, version)
        path = self._file(name, self._options.most_bytes)
        if path is None:
            return None
        signature = None
        if self._options.signed:
            # Small, and perhaps put right since.
            self._spool.drop(names.signature_name(name))
            signature = self._file(names.signature_name(name), _SMALL_BYTES)
        return Fetched(number, path, signature)

    def _newest(self) -> int | None:
        """The newest packet of the feed, -1 if it has none; None if it does not say."""
        try:
            told = self._small(_INFO)
        except core.RefusedError:
            if self._token is not None:
                raise
            # Packets are free there, but not this.
            return None
        return None if told is None else core.newest_of(told)

    def _small(self, name: str) -> bytes | None:
        """What is no packet and is not kept; None if it is not there."""
        self._spool.drop(name)
        try:
            path = self._file(name, _SMALL_BYTES)
            return None if path is None else path.read_bytes()
        finally:
            self._spool.drop(name)

    def _file(self, name: str, most: int) -> Path | None:
        if self._spool.has(name):
            return self._spool.path(name)
        return self._tried(name, lambda name: self._try(name, most))

    def _tried(self, name: str, ask: Callable[[str], T]) -> T:
        """What a question of the feed comes to, asked again where that may help."""
        for attempt in count():
            try:
                return ask(name)
            except _AgainError as error:
                why, retry_after = str(error), error.retry_after
            except httpx.TimeoutException:
                why, retry_after = f"no data for {self._options.stall:g} s", None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                why, retry_after = self._in_words(error), None
            if self._ended.is_set():
                raise StoppedError
            delay = core.retry_delay(attempt, retry_after)
            if delay is None:
                raise UnreachableError(
                    f"The feed at {self.base.origin} did not give {name} in {attempt + 1} tries: {why}. "
                    "What came is kept; the next run goes on from there."
                )
            self._telemetry.count("mbevents_sync_retries_total")
            log.debug("download_failed", packet=name, why=why, seconds=delay)
            self._say(f"The feed at {self.base.origin} did not give {name}: {why}. Trying again in {delay:g} s.")
            if self._ended.wait(delay):
                raise StoppedError
        raise AssertionError

    def _try(self, name: str, most: int) -> Path | None:
        begun = self._spool.begun(name)
        with self._opened(name, begun.headers) as (response, answer):
            what = core.verdict(answer, begun, has_token=self._token is not None)
            if what is Verdict.MISSING:
                return None
            if what is Verdict.AGAIN:
                raise _AgainError.of(answer)
            if what is Verdict.AFRESH:
                self._spool.drop(name)
                raise _AgainError("it is another file than before, and is fetched from its beginning")
            if what is Verdict.WHOLE:
                had, total = 0, answer.length
                self._spool.note(name, answer.etag, total)
            else:
                had, total = begun.size, begun.total
            if total is not None and total > most:
                raise self._too_large(name, f"has {total:,} bytes", most)
            size = self._receive(name, response, had, most)
        if total is not None and size != total:
            raise _AgainError(f"it ended after {size:,} of {total:,} bytes")
        return self._spool.finish(name)

    def _receive(self, name: str, response: httpx.Response, had: int, most: int) -> int:
        size = had
        mark, deadline = size, time.monotonic() + self._options.stall
        with self._spool.part(name).open("ab" if had else "wb") as file:
            for piece in response.iter_raw():
                if self._ended.is_set():
                    raise StoppedError
                size += len(piece)
                if size > most:
                    raise self._too_large(name, "does not end", most)
                file.write(piece)
                if time.monotonic() > deadline:
                    if size - mark < _LEAST_BYTES:
                        raise _AgainError(f"only {size - mark:,} bytes came in {self._options.stall:g} s")
                    mark, deadline = size, time.monotonic() + self._options.stall
        self._telemetry.count("mbevents_sync_downloaded_bytes_total", size - had)
        return size

    def _too_large(self, name: str, what: str, most: int) -> core.RefusedError:
        self._spool.drop(name)
        return core.RefusedError(
            f"{name} of the feed at {self.base.origin} {what}; at most {most:,} bytes are taken. "
            "If it is meant, raise REPLICATION_PACKET_MB."
        )

    @contextmanager
    def _opened(self, name: str, headers: dict[str, str]) -> Iterator[tuple[httpx.Response, Answer]]:
        """Where the redirects end, before the body."""
        hop = Hop(f"{self.base.url}/{name}", with_token=True)
        for hops in count():
            request = self._client.build_request("GET", self._addressed(hop), headers=headers)
            response = self._client.send(request, stream=True)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                break
            response.close()
            hop = core.next_hop(self.base, hop.url, location, hops=hops, token=self._token)
        self._current = response
        try:
            yield response, _answer(response, hop)
        finally:
            self._current = None
            response.close()

    def _addressed(self, hop: Hop) -> str:
        if not hop.with_token or self._token is None:
            return hop.url
        return f"{hop.url}{'&' if '?' in hop.url else '?'}token={quote(self._token, safe='')}"

    def _in_words(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        return text.replace(self._token, "***") if self._token else text


def _answer(response: httpx.Response, hop: Hop) -> Answer:
    headers = response.headers
    return Answer(
        core.parsed_origin(hop.url),
        response.status_code,
        elsewhere=not hop.with_token,
        etag=headers.get("ETag"),
        length=core.length_of(headers.get("Content-Length")),
        content_range=headers.get("Content-Range"),
        retry_after=headers.get("Retry-After"),
    )
