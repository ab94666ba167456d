"""Sessions on the web: the cookie, who asks, and logging out. There is no sign-in page yet."""

from functools import cached_property
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
import structlog
from fastapi import Depends, FastAPI, HTTPException, Request, Response

from ops.web.problems import RETRY_AFTER, problem
from workers.accounts.sessions.core import Session, is_session_id
from workers.accounts.sessions.service import Sessions, SessionsUnavailableError

log = structlog.get_logger(__name__)

# The prefix has browsers refuse a cookie that is not Secure, or that a neighbour's subdomain sets.
COOKIE = "__Host-mbevents-session"
# A session ends at the server; the browser drops the cookie when it is closed.
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Visitor:
    """Who sent a request; Redis is asked once, and only by who wants to know."""

    def __init__(self, sessions: Sessions, session_id: str | None) -> None:
        self._sessions = sessions
        self.session_id = session_id

    @cached_property
    def session(self) -> Session | None:
        """The session, renewed by this. Raises SessionsUnavailableError, which the web answers with 503."""
        return None if self.session_id is None else self._sessions.get(self.session_id)

    @property
    def editor_id(self) -> int | None:
        """Who is signed in."""
        return None if self.session is None else self.session.editor_id


async def visitor(request: Request) -> Visitor:
    """For handlers, as `Annotated[Visitor, Depends(visitor)]`; those that wait for Redis are no coroutines."""
    return Visitor(request.app.state.sessions, cookie_of(request))


async def refuse_cross_site(request: Request) -> None:
    """For handlers that change something: 403 for what another site has a browser send.

    Browsers say where a request comes from in a header that no page can set, older ones at least by Origin; whatever
    sends neither is no browser, and nobody's cookies come with it.
    """
    sites = request.headers.getlist("sec-fetch-site")
    if sites:
        foreign = not set(sites) <= {"same-origin", "none"}
    else:
        host = request.headers.get("host", "").lower()
        foreign = any(_authority(origin) != host for origin in request.headers.getlist("origin"))
    if foreign:
        raise HTTPException(403, "This was asked by a page of another site.", _HEADERS)


def cookie_of(request: Request) -> str | None:
    """The id that the request's one session cookie holds. Of two, one is not the browser's: then there is none."""
    given = [
        value.strip()
        for header in request.headers.getlist("cookie")
        for name, _, value in (each.partition("=") for each in header.split(";"))
        if name.strip() == COOKIE
    ]
    return given[0] if len(given) == 1 and is_session_id(given[0]) else None


def give_cookie(response: Response, session_id: str) -> None:
    """Have the browser send this id from now on."""
    response.headers.append("Set-Cookie", f"{COOKIE}={session_id}; {_ATTRIBUTES}")


def take_cookie(response: Response) -> None:
    response.headers.append("Set-Cookie", f"{COOKIE}=; {_ATTRIBUTES}; Max-Age=0")


def register(app: FastAPI, sessions: Sessions) -> None:
    """Add the addresses, and what handlers find sessions by. FastAPI runs what is not a coroutine in threads."""
    app.state.sessions = sessions
    app.add_exception_handler(SessionsUnavailableError, _unavailable)
    guarded = [Depends(refuse_cross_site)]
    app.add_api_route("/session", _show, methods=["GET", "HEAD"])
    app.add_api_route("/session", _end, methods=["DELETE"], dependencies=guarded)
    app.add_api_route("/sessions", _end_everywhere, methods=["DELETE"], dependencies=guarded)


Asking = Annotated[Visitor, Depends(visitor)]


def _show(request: Request, asking: Asking) -> Response:
    """Not a use of the session: a page that counts the minutes down does not keep it from ending."""
    sessions: Sessions = request.app.state.sessions
    found = None if asking.session_id is None else sessions.look(asking.session_id)
    if found is None or found.editor_id is None:
        return _answer(200, {"signed_in": False})
    return _answer(
        200,
        {
            "signed_in": True,
            "editor_id": found.editor_id,
            "began": found.began,
            "ends": found.ends,
            "idle_ends": found.idle_ends,
        },
    )


def _end(request: Request, asking: Asking) -> Response:
    if asking.session_id is not None:
        request.app.state.sessions.end(asking.session_id)
    return _without_cookie(_answer(204))


def _end_everywhere(request: Request, asking: Asking) -> Response:
    ended = 0
    if asking.session_id is not None:
        ended = request.app.state.sessions.end_everywhere(asking.session_id)
    return _without_cookie(_answer(200, {"ended": ended}))


async def _unavailable(_: Request, error: Exception) -> Response:
    log.warning("sessions_unavailable", reason=str(error))
    # Never with a cookie: who is signed in still is, and who wants to log out must be able to try again.
    return problem(503, "Sessions cannot be looked up now. Try again later.", {"Retry-After": str(RETRY_AFTER)})


def _without_cookie(response: Response) -> Response:
    take_cookie(response)
    return response


def _answer(status: int, body: dict[str, Any] | None = None) -> Response:
    content = None if body is None else orjson.dumps(body, option=orjson.OPT_UTC_Z)
    return Response(content, status, _HEADERS, media_type=None if body is None else "application/json")


def _authority(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
