"""One request over httpx's engine, and what came of it."""

import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import httpcore
import httpx
from h2.events import ConnectionTerminated, StreamReset

from .body import Body
from .core import CallError, Kind, Reply, Request, is_idempotent, port_of
from .network import CONNECT_SECONDS, Lookups, Network, Resolve

# Connections that wait for the next call, and how many seconds they do.
_IDLE, _IDLE_SECONDS = 16, 15.0
# How long one of HTTP/1.1 rests before that: what its server says too much, and its system may hold back for a while
# (Nagle), is to be here by then, and not only with the next request.
_REST_SECONDS = 0.1

_QUOTED = re.compile(r"(?:bytearray\()?b?['\"].*", re.DOTALL)

Origin = tuple[str, str, int]


class _Line:
    """A connection to one origin, or none yet, which one call at a time has for itself.

    httpcore could share one between threads over HTTP/2, but takes the numbers of streams without a lock: two calls
    may get the same one, and each other's answers.
    """

    def __init__(self, origin: Origin, network: Network, tls: ssl.SSLContext | None) -> None:
        self.origin = origin
        self.network = network
        self.rests_until = 0.0
        scheme, host, port = origin
        self.connection = httpcore.HTTPConnection(
            httpcore.Origin(scheme.encode(), host.encode(), port),
            ssl_context=tls,
            keepalive_expiry=_IDLE_SECONDS,
            http2=True,
            network_backend=network,
        )

    @property
    def is_good(self) -> bool:
        # httpcore sees over HTTP/1.1 only that the server has closed it: a few such would use up all tries of a call.
        return self.connection.is_idle() and not self.connection.has_expired() and not self.network.is_readable()

    def close(self) -> None:
        with suppress(Exception):  # whatever it says now, nobody wants to know
            self.connection.close()

    def has_left_over(self) -> bool:
        """Whether more came than the answer says it is: httpcore would take it for the next answer."""
        return self._h11 is not None and bool(self._h11.trailing_data[0])

    def rest(self, now: float) -> None:
        # Over HTTP/2 every frame says which answer it belongs to.
        if self._h11 is not None:
            self.rests_until = now + _REST_SECONDS
            self.network.acknowledge()

    @property
    def _h11(self) -> Any:
        return getattr(self.connection._connection, "_h11_state", None)


class Wire:
    """Sends requests, over HTTP/2 where it is offered, and checks who answers. It keeps no cookies, follows nothing,
    and takes no proxy from the environment: rates, and the addresses that `allowed` is asked about, would be its.

    `timeout`: seconds that a server may say nothing; `most_bytes`: of a decoded body.
    """

    def __init__(
        self,
        agent: str,
        *,
        timeout: float = 30.0,
        most_bytes: int = 16 << 20,
        resolve: Resolve | None = None,
        allowed: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent = agent
        self._timeouts = {"connect": min(timeout, CONNECT_SECONDS), "read": timeout, "write": timeout}
        self._most_bytes = most_bytes
        self._resolve = resolve or Lookups()
        self._allowed = allowed
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[_Line] = []

    def exchange(self, request: Request, *, until: float) -> Reply:
        """What the server says to one request, before `until` (by the clock). Raises CallError."""
        line = self._take(request)
        line.network.until = until
        reply = None
        try:
            reply = self._on(line, request)
            return reply
        finally:
            if reply is not None and line.is_good:
                self._keep(line)
            else:
                line.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # SSL_CERT_FILE and SSL_CERT_DIR may name other authorities; nothing turns the check off.
        try:
            return httpx.create_ssl_context()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise CallError(Kind.TLS, f"The authorities to trust cannot be read: {why}. Check SSL_CERT_FILE.") from None

    def _on(self, line: _Line, request: Request) -> Reply:
        begun = False
        try:
            response = line.connection.handle_request(self._prepared(request))
            begun = True
            if not 200 <= response.status <= 999:
                # Over HTTP/2 it may be any number; a switch to another protocol is nothing that we asked for.
                raise CallError(Kind.PROTOCOL, "What came has no status of HTTP.")
            try:
                headers = _headers(response.headers)
                body = self._receive(line, response, headers, empty=request.method == "HEAD")
            finally:
                response.close()
            if line.has_left_over():
                raise CallError(Kind.BAD_LENGTH, "More came than its Content-Length says.")
            return Reply(response.status, headers, body)
        except CallError as error:
            if begun and error.kind is Kind.CONNECTION:
                raise CallError(Kind.TRUNCATED, error.message) from None
            raise
        except Exception as error:
            # httpcore's, h11's and h2's, of which some come out as they are: what a server sends must surprise nobody.
            ended = line.network.ended or _is_goodbye(error)
            if ended and begun:
                raise CallError(Kind.TRUNCATED, "The connection ended before the answer did.") from error
            if ended:
                raise CallError(Kind.CONNECTION, "The server closed the connection without an answer.") from error
            # Without what they quote, which may be a cookie.
            why = _QUOTED.sub("…", str(error))
            raise CallError(Kind.PROTOCOL, f"What came is not HTTP ({type(error).__name__}: {why:.100}).") from error

    def _receive(self, line: _Line, response: httpcore.Response, headers: Mapping[str, str], *, empty: bool) -> bytes:
        encoding = "" if empty or response.status in {204, 304} else headers.get("content-encoding", "")
        body = Body(encoding, self._most_bytes)
        length = headers.get("content-length", "")
        if not empty and length.isdecimal() and len(length) < 20 and int(length) > self._most_bytes:
            raise CallError(Kind.TOO_LARGE, f"It has {int(length):,} bytes; at most {self._most_bytes:,} are taken.")
        for piece in response.iter_stream():
            # What was read at once may be thousands of chunks.
            line.network.left(None)
            body.feed(piece)
        return body.end()

    def _prepared(self, request: Request) -> httpcore.Request:
        headers: dict[bytes | str, bytes | str] = {
            "Host": request.url.netloc.decode("ascii"),
            "User-Agent": self._agent,
            "Accept": "*/*",
            "Accept-Encoding": "gzip",
            **{name.title(): value for name, value in request.headers.items()},
        }
        if request.body or request.method in {"POST", "PUT", "PATCH"}:
            headers["Content-Length"] = str(len(request.body))
        scheme, host, port = _origin(request.url)
        return httpcore.Request(
            request.method,
            httpcore.URL(scheme=scheme.encode(), host=host.encode(), port=port, target=request.url.raw_path),
            headers=headers,
            content=request.body,
            extensions={"timeout": self._timeouts},
        )

    def _take(self, request: Request) -> _Line:
        origin = _origin(request.url)
        # What must not be sent twice is sent on a connection that the server is not about to close.
        found = self._idle_line(origin) if is_idempotent(request.method) else None
        if found is not None:
            return found
        network = Network(self._resolve, self._allowed, self._clock)
        return _Line(origin, network, self._tls if request.url.scheme == "https" else None)

    def _idle_line(self, origin: Origin) -> _Line | None:
        with self._lock:
            now = self._clock()
            for line in [each for each in self._idle if each.origin == origin and each.rests_until <= now]:
                self._idle.remove(line)
                if line.is_good:
                    return line
                line.close()
        return None

    def _keep(self, line: _Line) -> None:
        line.rest(self._clock())
        with self._lock:
            self._idle.append(line)
            surplus = self._idle.pop(0) if len(self._idle) > _IDLE else None
        if surplus is not None:
            surplus.close()


def _origin(url: httpx.URL) -> Origin:
    return url.scheme, url.raw_host.decode("ascii"), port_of(url)


def _is_goodbye(error: Exception) -> bool:
    """Over HTTP/2 a server says that it ends the connection, or one request, and why."""
    said = (ConnectionTerminated, StreamReset)
    return isinstance(error, httpcore.ConnectionNotAvailable) or any(isinstance(each, said) for each in error.args)


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1").lower(), value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
