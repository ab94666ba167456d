"""So many requests a second of each client, and no more: the answer to who asks for more is 429.

The web listens on loopback, so whoever connects is a proxy before it, or somebody on this machine. Of what a proxy
says in X-Forwarded-For only its own word counts, which is the last: what is before it came from outside.
"""

from collections.abc import Sequence
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.web.problems import problem
from workers.limits.core import Decision, headers_of
from workers.limits.core import Scope as Limit
from workers.limits.service import Decider

# Who looks after this process must not be turned away because others ask for much.
EXEMPT = frozenset({"/healthz", "/readyz", "/metrics"})
# Proxies one behind the other on this machine.
_MOST_PROXIES = 5


class RateLimited:
    """ASGI middleware: at most `limit` requests in any second of one client, but for what is below `free`."""

    def __init__(self, app: ASGIApp, limiter: Decider, *, limit: int, free: Sequence[str] = ()) -> None:
        self._app = app
        self._limiter = limiter
        self._limit = limit
        self._free = tuple(f"{prefix}/" for prefix in free)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in EXEMPT or scope["path"].startswith(self._free):
            await self._app(scope, receive, send)
            return
        client = Limit("web", client_of(scope), self._limit)
        decision = await run_in_threadpool(self._limiter.decide, [client])
        headers = headers_of(decision)
        if not decision.allowed:
            await _refusal(decision, headers)(scope, receive, send)
            return

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(dict(headers))
            await send(message)

        await self._app(scope, receive, send_told)


def client_of(scope: Scope) -> str:
    """Who asks: an IPv4 address, or the /64 of an IPv6 address, which is what one household has."""
    peer = scope.get("client")
    address = _address(peer[0]) if peer else None
    if address is None:
        return "unknown"
    if address.is_loopback:
        # The last that is not this machine; what no proxy of ours could have said ends it.
        hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).rsplit(",", _MOST_PROXIES)[-_MOST_PROXIES:]
        for hop in reversed(hops):
            said = _address(hop)
            if said is None:
                break
            address = said
            if not said.is_loopback:
                break
    return _group(address)


def _group(address: IPv4Address | IPv6Address) -> str:
    return str(IPv6Network((address, 64), strict=False)) if address.version == 6 else str(address)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """As proxies write it: also with a port, in brackets, or an IPv4 address in IPv6's form. None: it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _refusal(decision: Decision, headers: Sequence[tuple[str, str]]) -> Response:
    """It is not the client's fault that nobody can count."""
    if decision.outcome == "refused":
        status = HTTPStatus.TOO_MANY_REQUESTS
        detail = f"More than {decision.limit} requests in a second. Ask again after the seconds in Retry-After."
    else:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        detail = "Requests cannot be counted at the moment. Ask again after the seconds in Retry-After."
    return problem(status, detail, dict(headers))
