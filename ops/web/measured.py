"""What the web answers, in numbers."""

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.telemetry import Telemetry


class Measured:
    """ASGI middleware, before all others: counts answers by route and class of status, and how soon they begin."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = answered = perf_counter()
        # What becomes of an error that nobody caught.
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], perf_counter()
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            # Never the path, of which there may be any number.
            route = getattr(scope.get("route"), "path_format", "")
            self._telemetry.count("mbevents_web_requests_total", route=route, status=f"{status // 100}xx")
            self._telemetry.observe("mbevents_web_seconds", answered - began, route=route)
