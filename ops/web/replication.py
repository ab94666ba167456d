"""`/replication-status`: whether replication runs, as JSON for programs and as a page for people."""

import re
from base64 import b64encode
from functools import partial
from hashlib import sha256
from typing import Protocol

import orjson
import structlog
from fastapi import FastAPI, Request, Response

from events.errors import MbeventsError
from ops.web.replication_page import STYLE, failed, page
from ops.web.threads import Threads
from workers.replication.status.core import Status

log = structlog.get_logger(__name__)

PATH = "/replication-status"
MOST_READING = 8
# Nothing is fetched, nothing runs, nothing is sent, nobody frames it; only the one style of the page applies.
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_QUALITY = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


class Reader(Protocol):
    def read(self) -> Status: ...


def register(app: FastAPI, reader: Reader) -> None:
    """Add the address. What waits for servers runs in threads of its own."""
    threads = Threads(MOST_READING)

    async def replication_status(request: Request) -> Response:
        html = wants_page(request.headers.get("accept", ""))
        return await threads.answered(partial(_read, reader, html=html), partial(_failed, html=html))()

    app.add_api_route(PATH, replication_status, methods=["GET", "HEAD"])


def wants_page(accept: str) -> bool:
    """Whether HTML is liked better than JSON; who likes everything the same gets JSON."""
    qualities = {"text/html": 0.0, "application/json": 0.0}
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        if kind in qualities:
            found = next((match for text in parameters if (match := _QUALITY.fullmatch(text))), None)
            qualities[kind] = float(found[1]) if found else 1.0
    return qualities["text/html"] > qualities["application/json"]


def _read(reader: Reader, *, html: bool) -> Response:
    try:
        status = reader.read()
    except Exception as error:
        return _failed(error, html=html)
    return _answer(200, page(status) if html else orjson.dumps(status.to_dict()), html=html)


def _failed(error: Exception, *, html: bool) -> Response:
    log.warning("replication_status_unavailable", error=type(error).__name__)
    told = str(error) if isinstance(error, MbeventsError) else "The database does not answer as it should."
    return _answer(503, failed(told) if html else orjson.dumps({"problem": told}), html=html)


def _answer(status: int, body: bytes, *, html: bool) -> Response:
    headers = {
        "Cache-Control": "no-store",
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": _POLICY,
    }
    return Response(body, status, headers, media_type="text/html; charset=utf-8" if html else "application/json")
