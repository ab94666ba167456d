"""The small server inside bridge and worker: /metrics, /healthz and /readyz on a thread that sleeps until asked."""

import errno
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from events.errors import UsageError
from ops import metrics
from ops.web.health import Answer, Health, reason_of

log = structlog.get_logger(__name__)


class SmallServer:
    """Listens until `close`. Of several processes with one address each takes the first free one of `ports` ports."""

    def __init__(self, listen: tuple[str, int], health: Health, registry: CollectorRegistry, *, ports: int = 1) -> None:
        routes: dict[str, Callable[[], Answer]] = {
            "/healthz": health.alive,
            "/readyz": health.ready,
            "/metrics": lambda: Answer(200, metrics.page(registry), metrics.CONTENT_TYPE),
        }
        self._server = _bind(listen, _handler(routes), ports)
        self.host, self.port = str(self._server.server_address[0]), int(self._server.server_address[1])
        # Once a second is when it looks whether it is to end; it wakes at once for a request.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(1.0,), name="small-server", daemon=True
        )
        self._thread.start()
        log.info("metrics_served", host=self.host, port=self.port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A port that another process of ours has is to be an error, so that the next one is tried.
    allow_reuse_port = False

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        # Whoever asked hung up.
        log.debug("metrics_client_gone")


class _Server6(_Server):
    address_family = socket.AF_INET6


def _bind(listen: tuple[str, int], handler: type[BaseHTTPRequestHandler], ports: int) -> _Server:
    host, first = listen
    kind = _Server6 if ":" in host else _Server
    for port in range(first, first + ports):
        try:
            return kind((host, port), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"METRICS_LISTEN: cannot listen on {host}:{port}: {error.strerror}.") from None
    told = f"{host}:{first}" if ports == 1 else f"{host}, ports {first} to {first + ports - 1}"
    raise UsageError(
        f"METRICS_LISTEN: {told} is taken by another process. Give each process its own address, or stop that one."
    )


def _handler(routes: dict[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "mbevents"
        sys_version = ""
        timeout = 10

        def do_GET(self) -> None:
            route = routes.get(self.path.partition("?")[0])
            self._send(_answer(route) if route else Answer(404, b"not found\n", "text/plain"))

        def do_HEAD(self) -> None:
            self.do_GET()

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the signature is the base's)
            """Nothing: scrapes are no news."""

    return Handler


def _answer(route: Callable[[], Answer]) -> Answer:
    try:
        return route()
    except Exception as error:
        log.exception("metrics_page_failed")
        return Answer(500, reason_of(error).encode(), "text/plain")
