"""The live data feed over HTTP, as MetaBrainz serves it: whoever reads theirs reads ours.

Packets, signatures and what the newest is need a token; whether all is well anybody may ask.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

import orjson
import structlog
from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from events.errors import MbeventsError, NotFoundError, UnreachableError
from events.telemetry import Telemetry
from ops.web.conditional import UnsatisfiableError, http_date, is_unchanged, wanted_part
from ops.web.threads import Threads
from workers.replication.packet.names import packet_name
from workers.replication.store.core import PacketStore, Pieces, Stored, content_type, missing, named, newest
from workers.replication.tokens import Doorkeeper

log = structlog.get_logger(__name__)

PREFIX = "/api/musicbrainz"
METHODS = ["GET", "HEAD"]
# For as long a new download may begin at the address that an S3 store gives out.
SIGNED_SECONDS = 900
# Anybody may ask for a check, so the store is not listed for each.
LISTED_SECONDS = 1.0
# Threads for who has a token, which the database is asked for, and for who wants a check.
MOST_ASKING, MOST_CHECKING = 20, 4
WARNING_HOURS, CRITICAL_HOURS = 2, 6

# What looks like a file of the feed; whether it is one is told to those with a token only.
_FILE = re.compile(r"(?:replication-[0-9]+(?:-v2)?\.tar\.bz2(?P<signature>\.asc)?|(?P<digest>digest-[0-9]+\.json))")
_MISSING = {
    "packet": "Can't find specified replication packet!\n",
    "signature": "Can't find signature for a specified replication packet!\n",
    "digest": "Can't find specified digest!\n",
}
# Files need a token, so no cache may keep them for others; and they never change.
_KEEP = "private, max-age=31536000, immutable"


def make_router(store: PacketStore, doorkeeper: Doorkeeper, telemetry: Telemetry) -> APIRouter:
    """The feed's addresses. All work is done in threads."""
    feed = _Feed(store, doorkeeper, telemetry)
    with_token, for_anybody = Threads(MOST_ASKING), Threads(MOST_CHECKING)
    router = APIRouter(prefix=PREFIX)
    router.add_api_route("/replication-info", with_token.answered(feed.info, feed.refused), methods=METHODS)
    # Whether all is well needs no database, so it must not wait for those who do.
    router.add_api_route("/replication-check", for_anybody.answered(feed.check, _unknown), methods=METHODS)
    router.add_api_route("/{name}", with_token.answered(feed.file, feed.refused), methods=METHODS)
    return router


def verdict(stored: list[Stored], now: datetime) -> str:
    """What a check says: OK, or what is wrong in the form of Nagios."""
    latest = newest(stored)
    if latest is None:
        return "UNKNOWN no replication packets available"
    gap = missing(stored)
    if gap is not None:
        return f"CRITICAL Replication packet {gap} is missing"
    hours = (now - latest.modified).total_seconds() / 3600
    if hours > WARNING_HOURS:
        level = "CRITICAL" if hours > CRITICAL_HOURS else "WARNING"
        return f"{level} Latest replication packet is {hours:.1f} hours old"
    return "OK"


class _Feed:
    def __init__(self, store: PacketStore, doorkeeper: Doorkeeper, telemetry: Telemetry) -> None:
        self._store = store
        self._doorkeeper = doorkeeper
        self._telemetry = telemetry
        self._lock = Lock()
        self._listed: list[Stored] = []
        self._problem: str | None = None
        self._listed_at = float("-inf")

    def info(self, request: Request) -> Response:
        def answer() -> Response:
            latest = newest(self._list())
            what = None if latest is None else named(latest.name)
            last = "null" if what is None else f'"{packet_name(what.sequence, 1)}"'
            return _answer(200, f'{{"last_packet": {last}}}', "application/json")

        return self._with_token(request, "info", answer)

    def check(self) -> Response:
        try:
            return _answer(200, verdict(self._list(), datetime.now(UTC)))
        except MbeventsError as error:
            return _unknown(error)

    def file(self, name: str, request: Request) -> Response:
        found = _FILE.fullmatch(name)
        if found is None:
            return _answer(404, orjson.dumps({"detail": "Not Found"}).decode(), "application/json")
        what = "digest" if found["digest"] else "signature" if found["signature"] else "packet"

        def answer() -> Response:
            stored = self._store.stat(name) if named(name) is not None else None
            if stored is None:
                return _answer(404, _MISSING[what])
            try:
                return self._served(request, stored)
            except NotFoundError:
                # Gone since we looked.
                return _answer(404, _MISSING[what])

        return self._with_token(request, what, answer)

    def _with_token(self, request: Request, what: str, answer: Callable[[], Response]) -> Response:
        # Of several, the first, as theirs does.
        token = next(iter(request.query_params.getlist("token")), "")
        who = ""

        def checked() -> Response:
            nonlocal who
            if not token:
                return _answer(400, "You need to provide an access token!\n")
            who = self._doorkeeper.who(token) or ""
            return answer() if who else _answer(403, "Provided access token is invalid!\n")

        response = self._told(checked)
        self._telemetry.count("mbevents_feed_requests_total", token=who, what=what, status=str(response.status_code))
        return response

    def _told(self, answer: Callable[[], Response]) -> Response:
        try:
            return answer()
        except MbeventsError as error:
            return _unavailable(error)

    def refused(self, error: UnreachableError) -> Response:
        """For who was not even asked for a token."""
        self._telemetry.count("mbevents_feed_requests_total", token="", what="", status="503")
        return _unavailable(error)

    def _list(self) -> list[Stored]:
        with self._lock:
            if time.monotonic() - self._listed_at > LISTED_SECONDS:
                try:
                    self._listed, self._problem = self._store.list(), None
                except MbeventsError as error:
                    self._problem = str(error)
                self._listed_at = time.monotonic()
            if self._problem is not None:
                # Who waited for it does not try in turn: a store that is silent would hold every thread.
                raise UnreachableError(self._problem)
            return self._listed

    def _served(self, request: Request, stored: Stored) -> Response:
        headers = {
            "ETag": f'"{stored.etag}"',
            "Last-Modified": http_date(stored.modified),
            "Accept-Ranges": "bytes",
            "Cache-Control": _KEEP,
            "X-Content-Type-Options": "nosniff",
        }
        if is_unchanged(request.headers, stored.etag, stored.modified):
            return Response(None, 304, headers)
        kind = content_type(stored.name)
        if request.method == "HEAD":
            return Response(None, 200, {**headers, "Content-Length": str(stored.size)}, media_type=kind)
        elsewhere = self._store.url(stored.name, seconds=SIGNED_SECONDS)
        if elsewhere is not None:
            # The range goes with the client to where it is sent.
            return Response(None, 302, {"Location": elsewhere, "Cache-Control": "no-store"})
        try:
            part = wanted_part(request.headers, stored.size, stored.etag, stored.modified)
        except UnsatisfiableError:
            beyond = _answer(416, "There is nothing of this file in that range.\n")
            beyond.headers["Content-Range"] = f"bytes */{stored.size}"
            return beyond
        start, end = part or (0, stored.size)
        headers["Content-Length"] = str(end - start)
        if part is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
        pieces = self._store.read(stored.name, start, end)
        return _Streamed(pieces, 206 if part is not None else 200, headers, media_type=kind)


class _Streamed(StreamingResponse):
    """Reads in threads, a piece when the last one is sent, and closes the file also when the client hangs up."""

    def __init__(self, pieces: Pieces, status: int, headers: dict[str, str], media_type: str) -> None:
        super().__init__(pieces, status, headers, media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pieces.close()


def _unknown(error: MbeventsError) -> Response:
    """Monitoring reads the word, not the status: it is 200 whatever is wrong."""
    log.warning("feed_unavailable", reason=str(error))
    return _answer(200, "UNKNOWN the replication packets cannot be looked at: their store does not answer")


def _unavailable(error: MbeventsError) -> Response:
    log.warning("feed_unavailable", reason=str(error))
    response = _answer(503, "The feed cannot reach its database or its packets now. Try again later.\n")
    response.headers["Retry-After"] = "10"
    return response


def _answer(status: int, text: str, kind: str = "text/plain") -> Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(text, status, headers, media_type=kind)
