"""`/statistics`: every number as it was last counted."""

from collections.abc import Sequence
from typing import Protocol

import orjson
from fastapi import FastAPI, Request, Response

from ops.web.reading import Readers, answer
from workers.caches.statistics.core import Statistic
from workers.caches.statistics.service import expired


class Statistics(Protocol):
    def read(self) -> Sequence[Statistic]: ...

    def ask(self) -> None: ...


def register(app: FastAPI, statistics: Statistics) -> None:
    """Add the address. Nothing is counted while somebody waits; who finds something expired has it counted."""

    @Readers().answered
    def shown(request: Request) -> Response:
        found = statistics.read()
        if expired(found):
            statistics.ask()
        return answer(request, orjson.dumps({"statistics": as_dict(found)}))

    app.add_api_route("/statistics", shown, methods=["GET", "HEAD"])


def as_dict(found: Sequence[Statistic]) -> dict[str, dict[str, object]]:
    """By name, as JSON has it."""
    return {
        each.name: {
            "value": each.value,
            "counted_at": each.counted_at,
            "seconds": each.seconds,
            "expired": each.expired,
        }
        for each in found
    }
