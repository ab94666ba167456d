"""Whether a process lives and can do its work, asked over HTTP. The answers are the same in every process."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Lock
from time import monotonic

import orjson

from ops.asking import Asking
from ops.private import scrubbed

# All checks together get this long: many who ask give up soon after.
CHECK_SECONDS = 1.0
# Any number of probes cost the servers one look in this time.
FRESH_SECONDS = 1.0

Check = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Health:
    """Checks by name: each raises when what it looks at does not answer; its text becomes the reason.

    Without what is `needed` this process cannot do its work; without what is `spared` it does, if less well.
    """

    def __init__(
        self, process: str, version: str, needed: Mapping[str, Check], spared: Mapping[str, Check] | None = None
    ) -> None:
        self._process = process
        self._version = version
        self._needed = frozenset(needed)
        self._asking = Asking({name: partial(_timed, check) for name, check in {**needed, **(spared or {})}.items()})
        self._lock = Lock()
        self._looked_at = float("-inf")
        self._answer = Answer(503, b"")

    def alive(self) -> Answer:
        """That this process answers at all."""
        return _json(200, {"status": "alive", "process": self._process, "version": self._version})

    def ready(self) -> Answer:
        """200 if what is needed answers (`degraded`: something else does not), else 503; with the reasons.

        Who asks while somebody looks, or soon after, is told the same.
        """
        with self._lock:
            if monotonic() - self._looked_at >= FRESH_SECONDS:
                self._answer = self._look()
                self._looked_at = monotonic()
            return self._answer

    def _look(self) -> Answer:
        results = {name: _result(outcome) for name, outcome in self._asking.ask(CHECK_SECONDS).items()}
        failed = {name for name, each in results.items() if not each["ok"]}
        ready = not failed & self._needed
        status = "not ready" if not ready else "degraded" if failed else "ready"
        body = {"status": status, "process": self._process, "checks": results}
        return _json(200 if ready else 503, body)


def _timed(check: Check) -> float:
    began = monotonic()
    check()
    return monotonic() - began


def _result(outcome: "Future[float]") -> dict[str, object]:
    if not outcome.done():
        return {"ok": False, "reason": f"it did not answer within {CHECK_SECONDS:g} s"}
    error = outcome.exception()
    if error is not None:
        return {"ok": False, "reason": reason_of(error)}
    return {"ok": True, "seconds": round(outcome.result(), 4)}


def reason_of(error: BaseException) -> str:
    """An error in one line that may be shown to whoever asks."""
    first = scrubbed(str(error)).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _json(status: int, body: object) -> Answer:
    return Answer(status, orjson.dumps(body))
