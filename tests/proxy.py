"""A TCP proxy to a unix socket whose connections can go silent without being closed."""

import contextlib
import select
import socket
import threading


class Proxy:
    """`freeze` makes the connections of now half-open for good: nothing passes, nothing is closed.

    `delay`: seconds that everything is held up, in either direction. While `silent`, nothing passes over any
    connection, of now or later.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.delay = 0.0
        self.silent = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._frozen: set[socket.socket] = set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def connections(self) -> int:
        """How many were made so far."""
        return len(self._pairs)

    def freeze(self) -> None:
        self._frozen.update(each for pair in self._pairs for each in pair)

    def lead_to(self, target: str) -> None:
        """Connections from now on; those of before stay where they are."""
        self._target = target

    def close(self) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *(one for pair in self._pairs for one in pair)):
            each.close()

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._target)
                except OSError:
                    # The server is away: so are we.
                    client.close()
                    server.close()
                    continue
                self._pairs.append((client, server))
                thread = threading.Thread(target=self._forward, args=(client, server))
                self._threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while not self._closed.is_set():
            for ready in select.select([client, server], [], [], 0.05)[0]:
                if self.silent or ready in self._frozen:
                    self._closed.wait(0.05)
                    continue
                other = server if ready is client else client
                data = b""
                with contextlib.suppress(OSError):
                    data = ready.recv(65536)
                    self._closed.wait(self.delay)
                    other.sendall(data)
                if not data:
                    with contextlib.suppress(OSError):
                        other.shutdown(socket.SHUT_RDWR)
                    return
