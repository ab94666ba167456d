"""What the addresses that are read have in common: answers with ETags, and errors as problems."""

from collections.abc import Callable, Coroutine
from functools import wraps
from hashlib import blake2b
from typing import Any

import psycopg
import structlog
from fastapi import Request, Response

from events.errors import NotFoundError, UnreachableError, UsageError
from ops.web.conditional import is_known
from ops.web.problems import RETRY_AFTER, problem
from ops.web.threads import Answering, Threads

log = structlog.get_logger(__name__)

# A copy is good only as long as we say so: nobody else hears of an event.
HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}

# Threads of the web that may wait for what they read: the others are for who wants something else.
MOST_READING = 20


class Readers:
    """Runs what answers readers, in threads of which there are so many for all of them."""

    def __init__(self, most: int = MOST_READING) -> None:
        self._threads = Threads(most)

    def answered(self, answering: Answering) -> Callable[..., Coroutine[Any, Any, Response]]:
        """For FastAPI, with errors as problems."""
        return self._threads.answered(problems_told(answering), _unavailable)


def problems_told(answering: Answering) -> Answering:
    """Errors as problems: 400, 404, or 503 with Retry-After while a server is away; a fault of ours stays one."""

    @wraps(answering)
    def told(*args: object, **kwargs: object) -> Response:
        try:
            return answering(*args, **kwargs)
        except UsageError as error:
            return problem(400, str(error))
        except NotFoundError as error:
            return problem(404, str(error))
        except (UnreachableError, psycopg.OperationalError) as error:
            return _unavailable(error)

    return told


def _unavailable(error: Exception) -> Response:
    log.warning("reader_unavailable", error=type(error).__name__)
    detail = "A server does not answer, or not in time. Ask again soon."
    return problem(503, detail, {"Retry-After": str(RETRY_AFTER)})


def answer(request: Request, body: bytes) -> Response:
    """JSON, or 304 for who has it already."""
    etag = blake2b(body, digest_size=16).hexdigest()
    headers = {**HEADERS, "ETag": f'"{etag}"'}
    if is_known(request.headers, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type="application/json")
