"""What may not be answered as it was asked, as JSON of RFC 9457."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import Response

CONTENT_TYPE = "application/problem+json"
# Seconds: a server that is away may be back then.
RETRY_AFTER = 5


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    fixed = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(orjson.dumps(body), status, {**fixed, **(headers or {})}, media_type=CONTENT_TYPE)
