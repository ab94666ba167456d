"""Connections that end with their call's deadline, and lead to addresses that were looked at."""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import httpcore

from .core import CallError, Kind

Resolve = Callable[[str, int, float], list[str]]
"""From host, port and seconds to addresses. Raises CallError."""

CONNECT_SECONDS = 10.0
# Lookups that hang end only when the system's resolver gives them up.
_LOOKUPS = 32
# Of a host's addresses, how many are tried: who has a name has as many as he likes, of whomever he likes.
_MOST_ADDRESSES = 8
# What is read at once is parsed before the time is looked at again: thousands of frames, where they are small. No less
# than a record of TLS, of which the rest would be in nobody's sight.
_PIECE_BYTES = 1 << 14


class Lookups:
    """By the system's resolver, which knows no deadline: it is left alone when it takes longer. A Resolve.

    Each client has its own: names of users that hang keep nobody from the services that we know.
    """

    def __init__(self, most: int = _LOOKUPS) -> None:
        self._free = threading.BoundedSemaphore(most)

    def __call__(self, host: str, port: int, seconds: float) -> list[str]:
        end = time.monotonic() + seconds
        if not self._free.acquire(timeout=seconds):
            raise CallError(Kind.DNS, f"The address of {host} was not looked up in time: too many lookups hang.")
        found: list[list[str] | str] = []

        def look() -> None:
            try:
                told = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found.append(list(dict.fromkeys(str(address[0]) for *_, address in told)))
            except (OSError, UnicodeError) as error:
                found.append(getattr(error, "strerror", None) or str(error))
            finally:
                self._free.release()

        looking = threading.Thread(target=look, name="http-dns", daemon=True)
        try:
            looking.start()
        except RuntimeError as error:
            self._free.release()
            raise CallError(Kind.DNS, f"The address of {host} was not looked up: {error}.") from None
        looking.join(max(0.0, end - time.monotonic()))
        if not found:
            raise CallError(Kind.DNS, f"The address of {host} was not found within {seconds:.1f} s.")
        if isinstance(found[0], str):
            raise CallError(Kind.DNS, f"{host} has no address: {found[0]}.")
        return found[0]


class Network(httpcore.NetworkBackend):
    """For one connection, of one call at a time, which sets `until` (by the clock) before it. `ended`: the server has
    closed the connection, or broken it.

    `allowed` says of an address whether one may connect to it. All of a host's must be: one that is not says enough
    of who named it. What is connected to is what was looked at, never the name again.
    """

    def __init__(
        self,
        resolve: Resolve,
        allowed: Callable[[str], bool] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.until = float("-inf")
        self.ended = False
        self._stream: Stream | None = None
        self._resolve = resolve
        self._allowed = allowed
        self._clock = clock

    def left(self, most: float | None) -> float:
        """Seconds that what comes next may take. Raises CallError when there are none."""
        left = self.until - self._clock()
        if left <= 0:
            raise CallError(Kind.DEADLINE, "It took longer than the whole call may.")
        return left if most is None else min(left, most)

    def late(self, what: str) -> CallError:
        """The error for a socket's timeout, which may be the end of the call as well."""
        self.left(None)
        return CallError(Kind.TIMEOUT, what)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 (httpcore's signature)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> "Stream":
        end = self._clock() + self.left(timeout)
        addresses = self._resolve(host, port, end - self._clock())
        for address in addresses if self._allowed is not None else ():
            if self._allowed is not None and not self._allowed(address):
                # Which one it is may be a secret of our own network.
                raise CallError(Kind.FORBIDDEN_ADDRESS, f"{host} leads to what is not a public address.")
        why, addresses = "it has no address", addresses[:_MOST_ADDRESSES]
        for n, address in enumerate(addresses):
            # Each gets its share, so that one that never answers leaves time for the others.
            seconds = max((end - self._clock()) / (len(addresses) - n), 0.001)
            try:
                found = socket.create_connection((address, port), self.left(seconds))
            except TimeoutError:
                why = "it does not answer"
            except OSError as error:
                why = error.strerror or type(error).__name__
            else:
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._stream = Stream(found, self)
                return self._stream
        self.left(None)
        raise CallError(Kind.CONNECTION, f"No connection to {host}: {why}.")

    def acknowledge(self) -> None:
        """Have what came acknowledged now: a server's system may send the rest only then."""
        if self._stream is not None:
            self._stream.acknowledge()

    def is_readable(self) -> bool:
        """Of an idle connection: the server has closed it, or says what nobody asked for."""
        return self._stream is not None and self._stream.is_readable()


class Stream(httpcore.NetworkStream):
    """A socket whose every wait is cut to what is left of the call."""

    def __init__(self, found: socket.socket, network: Network) -> None:
        self._socket = found
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            self._socket.settimeout(self._network.left(timeout))
            piece = self._socket.recv(min(max_bytes, _PIECE_BYTES))
        except TimeoutError:
            raise self._network.late(f"The server said nothing for {timeout:g} s.") from None
        except OSError as error:
            self._network.ended = True
            raise _broken(error) from error
        self._network.ended = not piece
        return piece

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            try:
                self._socket.settimeout(self._network.left(timeout))
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                raise self._network.late(f"The server took nothing for {timeout:g} s.") from None
            except OSError as error:
                # httpcore goes on to read: the server may have said why before it closed.
                raise httpcore.WriteError(str(error)) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Stream":
        try:
            self._socket.settimeout(self._network.left(timeout))
            self._socket = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except TimeoutError:
            self.close()
            raise self._network.late("The server did not finish the TLS handshake.") from None
        except (OSError, ValueError) as error:
            self.close()
            raise _broken(error) from error
        return self

    def close(self) -> None:
        self._socket.close()

    def acknowledge(self) -> None:
        # Of Linux; elsewhere it comes later.
        if hasattr(socket, "TCP_QUICKACK"):
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        if info == "is_readable":
            return self.is_readable()
        return None

    def is_readable(self) -> bool:
        if self._socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))


def _broken(error: Exception) -> CallError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CallError(Kind.TLS, f"The server does not prove who it is: {error.verify_message.rstrip('.')}.")
    if isinstance(error, ssl.SSLError):
        return CallError(Kind.TLS, f"TLS failed: {error.reason or 'the server closed the connection'}.")
    if isinstance(error, OSError):
        return CallError(Kind.CONNECTION, f"The connection broke: {error.strerror or type(error).__name__}.")
    return CallError(Kind.TLS, "TLS failed: the host's name makes no sense.")
