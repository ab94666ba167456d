"""A server on loopback that answers with whatever bytes a test wants, as slowly as it wants."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.waiting import wait_for

Script = Callable[[socket.socket], object]
"""What to do with a connection once a request has come; afterwards it is closed."""


class Hostile:
    """`scripts`: for each request the next one, the last one for all that come after it."""

    def __init__(self, scripts: list[Script], tls: ssl.SSLContext | None) -> None:
        self.requests: list[bytes] = []
        self.times: list[float] = []
        self.connections = self.ended = 0
        self._scripts = scripts
        self._tls = tls
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def lines(self) -> list[str]:
        """The first line of each request."""
        return [request.partition(b"\r\n")[0].decode() for request in self.requests]

    def wait_for_the_end_of(self, connections: int) -> None:
        wait_for(lambda: self.ended == connections)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._talk(connection)
        finally:
            with self._lock:
                self.ended += 1

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                while (request := _request(connection)) is not None:
                    with self._lock:
                        self.requests.append(request)
                        self.times.append(time.monotonic())
                        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                    if script(connection) != KEEP:
                        return


KEEP = "keep"


def _request(connection: socket.socket) -> bytes | None:
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        if not piece:
            return None
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def hostile(*scripts: Script, tls: ssl.SSLContext | None = None) -> Iterator[Hostile]:
    server = Hostile(list(scripts), tls)
    try:
        yield server
    finally:
        server.close()


def says(data: bytes) -> Script:
    """These bytes, then the end."""
    return lambda connection: connection.sendall(data)


def answers(
    body: bytes = b"hello", *, status: str = "200 OK", headers: dict[str, str] | None = None, keep: bool = True
) -> Script:
    """A right answer."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    data = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def script(connection: socket.socket) -> object:
        connection.sendall(data)
        return KEEP if keep else None

    return script


def redirects(location: str, status: str = "302 Found") -> Script:
    return answers(b"", status=status, headers={"Location": location})


def drips(data: bytes, seconds: float) -> Script:
    """One byte at a time, without end: the last one again and again."""

    def script(connection: socket.socket) -> object:
        n = 0
        while True:
            connection.sendall(data[min(n, len(data) - 1) :][:1])
            n += 1
            time.sleep(seconds)

    return script


def floods(head: bytes, piece: bytes) -> Script:
    """A piece again and again."""

    def script(connection: socket.socket) -> object:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return script


def is_silent(connection: socket.socket) -> object:
    """Until the other side gives up."""
    return connection.recv(1)
