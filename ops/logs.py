"""Log lines on stderr: JSON for machines or a form for reading, ids bound, nothing private in them."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import Processor

from ops.private import scrubbed_value

EventDict = MutableMapping[str, Any]
# Theirs are told in full from WARNING on; below, they describe each message or request.
_FOREIGN = ("dramatiq", "pika", "uvicorn", "asyncio", "psycopg.pool", "httpx", "httpcore")
# Below that, these write out headers: tokens and cookies, also those that we send.
_TELL_TOO_MUCH = ("httpcore", "hpack", "h2")
# They say again at every try that a server is away, several times a second.
REPEAT_SECONDS = 30.0


def configure(
    *, form: str = "auto", level: str = "INFO", stream: TextIO | None = None, observers: tuple[Processor, ...] = ()
) -> None:
    """Send structlog and the standard library's logging to `stream` (stderr). `form`: auto, json or console.

    `observers` see each line's fields once private data are gone from them (Sentry).
    """
    target = stream or sys.stderr
    if form == "auto":
        form = "console" if target.isatty() else "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _describe_exception,
        _without_private,
        *observers,
        _without_error_object,
    ]
    colors = target.isatty() and not os.environ.get("NO_COLOR")
    renderer: Processor = _json if form == "json" else structlog.dev.ConsoleRenderer(colors=colors)
    handler = logging.StreamHandler(target)
    handler.addFilter(_Foreign())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(level if level == "DEBUG" else max(logging.WARNING, logging.getLevelName(level)))
    for name in _TELL_TOO_MUCH:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(level)))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Ids on every line that is logged inside, also in threads started with this context."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield


class _Foreign(logging.Filter):
    """Gives what libraries say a constant event name, and lets the same be said again only after REPEAT_SECONDS."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        # By what is said, without its arguments: when it was told last, and how often it was not told since.
        self._told: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_FOREIGN):
            return True
        library, form = record.name.partition(".")[0], str(record.msg)
        fields: dict[str, object] = {"said": record.getMessage()}
        event = f"{library}_log"
        if library == "dramatiq" and "connection error" in form:
            # Critical to Dramatiq, but it is waited out.
            event, record.levelno, record.levelname = "broker_unreachable", logging.WARNING, "WARNING"
        if record.levelno >= logging.WARNING:
            untold = self._untold(event + form)
            if untold is None:
                return False
            if untold:
                fields["repeated"] = untold
        record.msg, record.args = event, ()
        record.__dict__.update(fields)
        return logging.getLogger().isEnabledFor(record.levelno)

    def _untold(self, what: str) -> int | None:
        """How often it was not told; None when it is not to be told now either."""
        now = time.monotonic()
        with self._lock:
            at, untold = self._told.get(what, (float("-inf"), 0))
            if now - at < REPEAT_SECONDS:
                self._told[what] = (at, untold + 1)
                return None
            # What some say is never the same twice: it must not be kept for ever.
            self._told = {key: each for key, each in self._told.items() if now - each[0] < 10 * REPEAT_SECONDS}
            self._told[what] = (now, 0)
            return untold


def _describe_exception(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The traceback as text, without local variables, rows or addresses."""
    given = event.pop("exc_info", None)
    if not given:
        return event
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        from events.queues.core import describe

        event["exception"] = describe(error)
        event["_error"] = error
    return event


def _without_private(_logger: Any, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if not key.startswith("_"):
            event[key] = scrubbed_value(value)
    return event


def _without_error_object(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event.pop("_error", None)
    return event


def _json(_logger: Any, _method: str, event: EventDict) -> str:
    fields = dict(event)
    first = {name: fields.pop(name) for name in ("timestamp", "level", "event") if name in fields}
    return orjson.dumps({**first, **fields}, option=orjson.OPT_NON_STR_KEYS, default=str).decode()
