"""The web process: health, the whole system's metrics, the feed of packets, entities, statistics and sessions.

The console will come here.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol

from ops import metrics
from ops.checks import database_check, redis_checks, system_samples
from ops.settings import RedisRole, Settings
from ops.version import version
from ops.web import entities, replication, sessions, statistics
from ops.web.address import listening
from ops.web.feed import METHODS, make_router
from ops.web.feed import PREFIX as FEED
from ops.web.health import Answer, Health
from ops.web.limits import RateLimited
from ops.web.measured import Measured
from ops.web.problems import problem
from ops.web.threads import Shared

if TYPE_CHECKING:
    from ops.service import Service
    from ops.wiring import Runtime

log = structlog.get_logger(__name__)

# Whoever asks for a page after this has to be content with a closed connection.
SHUTDOWN_SECONDS = 5
# A proxy sends a request whole; a connection without one only takes the place of others.
REQUEST_SECONDS = 10


def make_app(health: Health, page: Callable[[], bytes], feed: APIRouter) -> FastAPI:
    """The application; everything that waits for a server runs in a thread."""
    # One at a time, whoever asks and how often, also for who has left meanwhile.
    looking, measuring = Shared(health.ready), Shared(page)
    app = FastAPI(
        title="mbevents",
        version=version(),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # It would repeat the feed's token in an address without TLS: that of a proxy is not known here.
        redirect_slashes=False,
    )

    app.add_exception_handler(HTTPException, _refused)

    @app.api_route("/healthz", methods=METHODS)
    async def healthz() -> Response:
        return _response(health.alive())

    @app.api_route("/readyz", methods=METHODS)
    async def readyz() -> Response:
        return _response(await looking.get())

    @app.api_route("/metrics", methods=METHODS)
    async def exposition() -> Response:
        return _response(Answer(200, await measuring.get(), metrics.CONTENT_TYPE))

    app.include_router(feed)
    return app


async def _refused(_: Request, error: Exception) -> Response:
    """Addresses and methods that there are not, too: one form for whatever is not answered as it was asked."""
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, error.headers)


def roles_needed(settings: Settings) -> list[RedisRole]:
    """Without these the web refuses what it is asked; without the others caches miss, numbers are old, or nobody is
    limited or signed in."""
    needed = []
    if settings.sessions_without_redis == "refuse":
        needed.append(RedisRole.SESSIONS)
    if settings.web_rate_limit and settings.limits_without_redis == "closed":
        needed.append(RedisRole.LIMITS)
    return needed


def serve(runtime: "Runtime", service: "Service") -> None:
    """Until the service is to stop. Raises UsageError when the address cannot be had."""
    service.registry.register(metrics.Asked(system_samples(runtime)))
    needed = roles_needed(service.settings)
    health = Health(
        "web",
        version(),
        {"database": database_check(runtime), **redis_checks(runtime, needed)},
        redis_checks(runtime, [role for role in RedisRole if role not in needed]),
    )
    feed = make_router(runtime.packet_store, runtime.doorkeeper, service.telemetry)
    app = make_app(health, lambda: metrics.page(service.registry), feed)
    replication.register(app, runtime.replication_status)
    sessions.register(app, runtime.sessions)
    entities.register(app, runtime.entity_cache, runtime.load_entity, runtime.searches)
    statistics.register(app, runtime.statistics)
    if service.settings.web_rate_limit:
        # Who has a token for the feed catches up as fast as it can, and mirrors of other makes know no 429.
        limit = service.settings.web_rate_limit
        app.add_middleware(RateLimited, limiter=runtime.limiter, limit=limit, free=[FEED])
    # The last one is the first that is asked.
    app.add_middleware(Measured, telemetry=service.telemetry)
    with listening(service.settings.web_listen) as listener:
        host, port, *_ = listener.getsockname()
        log.info("web_listens", host=host, port=port)
        config = uvicorn.Config(
            app,
            http=_Impatient,
            log_config=None,
            access_log=False,
            server_header=False,
            # Whom to believe who asks is decided in one place: `ops.web.limits`.
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        asyncio.run(_run(_Server(config), listener, service))


class _Impatient(H11Protocol):
    """Closes a connection on which no request comes: uvicorn waits for the first, and for the rest of any, for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._wait()

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._waiting.cancel()

    def on_response_complete(self) -> None:
        # Before the next request, which may have come already.
        self._wait()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(REQUEST_SECONDS, self.timeout_keep_alive_handler)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to us: they set the service's event."""
        yield


async def _run(server: _Server, listener: socket.socket, service: "Service") -> None:
    serving = asyncio.create_task(server.serve([listener]))
    while not service.stop.is_set() and not serving.done():
        await asyncio.sleep(0.2)
    server.should_exit = True
    with suppress(asyncio.CancelledError):
        await serving
    for connection in list(server.server_state.connections):
        # Closed already, but it waits for its client to read what is left.
        connection.transport.abort()


def _response(answer: Answer) -> Response:
    return Response(
        answer.body,
        answer.status,
        media_type=answer.content_type,
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
