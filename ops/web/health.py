"""Whether a process lives and can do its work, asked over HTTP. The answers are the same in every process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import orjson

from ops.private import scrubbed

# A check gets this long: whoever asks gives up at about the same time.
CHECK_SECONDS = 2.0

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Health:
    """`checks` by name: each raises when what it looks at does not answer; its text becomes the reason."""

    def __init__(self, process: str, version: str, checks: Mapping[str, Check]) -> None:
        self._process = process
        self._version = version
        self._checks = dict(checks)

    def alive(self) -> Answer:
        """That this process answers at all."""
        return _json(200, {"status": "alive", "process": self._process, "version": self._version})

    def ready(self) -> Answer:
        """200 if all that this process depends on answers, else 503 with the reasons."""
        results: dict[str, dict[str, object]] = {}
        for name, check in self._checks.items():
            began = monotonic()
            try:
                check()
            except Exception as error:
                results[name] = {"ok": False, "reason": reason_of(error)}
            else:
                results[name] = {"ok": True, "seconds": round(monotonic() - began, 4)}
        ok = all(each["ok"] for each in results.values())
        body = {"status": "ready" if ok else "not ready", "process": self._process, "checks": results}
        return _json(200 if ok else 503, body)


def reason_of(error: BaseException) -> str:
    """An error in one line that may be shown to whoever asks."""
    first = scrubbed(str(error)).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _json(status: int, body: object) -> Answer:
    return Answer(status, orjson.dumps(body))
