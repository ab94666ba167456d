"""A feed on loopback that serves a folder, and misbehaves as a test says."""

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "t" * 40


class Asked:
    """A request as it came."""

    def __init__(self, path: str, headers: dict[str, str]) -> None:
        self.name = urlsplit(path).path.rpartition("/")[2]
        self.path = path
        self.token = parse_qs(urlsplit(path).query).get("token", [None])[0]
        self.headers = headers


class FeedServer:
    """Answers as the real feed does; each of `faults` takes one request instead of it."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.folder = folder
        self._scheme = "http" if tls is None else "https"
        self.faults: deque[Callable[[Any, Asked], None]] = deque()
        self.asked: list[Asked] = []
        self.token: str | None = TOKEN
        # What it says that its newest packet is: -1 for none, None for a feed that does not say.
        self.newest: int | None = None
        # What its replication-check says, if it has one.
        self.check: str | None = None
        # What a fault that stalls waits for.
        self.over = threading.Event()
        feed = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = Asked(self.path, dict(self.headers))
                feed.asked.append(asked)
                fault = feed.faults.popleft() if feed.faults else None
                (fault or feed.answer)(self, asked)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Who hangs up is what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            # The handshake is the handler's: who fails at it must not hold up others.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/api/musicbrainz"

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: Any, asked: Asked) -> None:
        told = self.told(asked)
        if told is not None:
            return send(handler, *told)
        path = self.folder / asked.name
        if not path.is_file():
            return send(handler, 404, b"Can't find specified replication packet!\n")
        data = path.read_bytes()
        etag = f'"{path.stat().st_mtime_ns}-{len(data)}"'
        wanted = asked.headers.get("Range")
        if wanted is not None and asked.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers = {"ETag": etag, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            return send(handler, 206, data[start:], headers)
        return send(handler, 200, data, {"ETag": etag})

    def told(self, asked: Asked) -> tuple[int, bytes] | None:
        """Any answer but a file's."""
        if asked.name == "replication-check" and self.check is not None:
            return 200, self.check.encode()
        if self.token is not None and asked.token is None:
            return 400, b"You need to provide an access token!\n"
        if self.token is not None and asked.token != self.token:
            return 403, b"Provided access token is invalid!\n"
        if asked.name == "replication-info" and self.newest is not None:
            last = "null" if self.newest < 0 else f'"replication-{self.newest}.tar.bz2"'
            return 200, f'{{"last_packet": {last}}}'.encode()
        return None

    # Faults

    def status(self, code: int, **headers: str) -> Callable[[Any, Asked], None]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return lambda handler, _: send(handler, code, b"no\n", named)

    def broken_off(self, after: int, *, etag: str | None = None, clean: bool = False) -> Callable[[Any, Asked], None]:
        """Only so many bytes come; `clean`: the server says that these were all."""

        def fault(handler: Any, asked: Asked) -> None:
            path = self.folder / asked.name
            data = path.read_bytes()
            tag = etag or f'"{path.stat().st_mtime_ns}-{len(data)}"'
            length = after if clean else len(data)
            handler.send_response(200)
            handler.send_header("ETag", tag)
            handler.send_header("Content-Length", str(length))
            handler.end_headers()
            handler.wfile.write(data[:after])
            handler.close_connection = True

        return fault

    def stall(self, after: int = 0) -> Callable[[Any, Asked], None]:
        """So many bytes come, and then nothing, for as long as the server lives."""

        def fault(handler: Any, asked: Asked) -> None:
            data = (self.folder / asked.name).read_bytes()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:after])
            handler.wfile.flush()
            self.over.wait()
            handler.close_connection = True

        return fault

    def drip(self) -> Callable[[Any, Asked], None]:
        """A byte now and then."""

        def fault(handler: Any, asked: Asked) -> None:
            data = (self.folder / asked.name).read_bytes()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.close_connection = True
            try:
                while not self.over.wait(0.05):
                    handler.wfile.write(b"x")
                    handler.wfile.flush()
            except OSError:
                pass

        return fault

    def endless(self) -> Callable[[Any, Asked], None]:
        """Without a length and without an end."""

        def fault(handler: Any, _: Asked) -> None:
            handler.send_response(200)
            handler.end_headers()
            handler.close_connection = True
            try:
                while not self.over.is_set():
                    handler.wfile.write(bytes(1 << 16))
                    time.sleep(0)
            except OSError:
                pass

        return fault


def send(handler: Any, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def served(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[FeedServer]:
    server = FeedServer(folder, tls)
    try:
        yield server
    finally:
        server.close()
