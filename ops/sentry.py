"""Error reports to Sentry, when SENTRY_DSN is set: what broke and where, and nothing of whose data it was."""

# ruff: noqa: ARG002 (the middleware's hooks have Dramatiq's signatures)

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, cast

import dramatiq

from ops.private import scrubbed, scrubbed_value

if TYPE_CHECKING:
    from sentry_sdk.transport import Transport
    from sentry_sdk.types import Event, Hint

IDS = ("queue", "actor", "message_id", "task_id", "position", "xid", "process", "metric", "cause")
# Everything else that a report may hold, a request, a user, breadcrumbs, arguments, is dropped: the list is of what
# may pass, so that what a later release of the SDK adds does not leave by itself.
_PASSES = (
    "event_id", "timestamp", "level", "platform", "release", "environment", "logger", "fingerprint", "sdk",
    "transaction",
)  # fmt: skip
# `Reported` tells these with their exception.
_TOLD_ELSEWHERE = {"message_died"}
_FRAME_PASSES = ("filename", "abs_path", "function", "module", "lineno", "context_line", "in_app")


def start(dsn: str, *, release: str, environment: str, transport: "Transport | None" = None) -> None:
    """Report uncaught errors, and what is logged as an error. `transport` is for tests."""
    import sentry_sdk
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration
    from sentry_sdk.integrations.threading import ThreadingIntegration

    sentry_sdk.init(
        dsn=dsn,
        release=f"mbevents@{release}",
        environment=environment,
        # Nothing personal is sent by default; to say so as `send_default_pii=False` is deprecated.
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        # Not its own logging or Dramatiq integrations: they send lines and messages as they are.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            # Silent: it would print to stderr that it waits for pending reports.
            AtexitIntegration(callback=lambda _pending, _timeout: None),
            DedupeIntegration(),
            ExcepthookIntegration(),
            ThreadingIntegration(),
        ],
        before_send=before_send,
        transport=transport,
    )


def stop(timeout: float = 2.0) -> None:
    """Send what is pending."""
    import sentry_sdk

    sentry_sdk.flush(timeout)


def observer(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: what is logged as an error is reported under the line's constant name, with its ids."""
    if event.get("level") in {"error", "critical"} and event.get("event") not in _TOLD_ELSEWHERE:
        import sentry_sdk

        with sentry_sdk.new_scope() as scope:
            for name in IDS:
                if name in event:
                    scope.set_tag(name, str(event[name]))
            # Other people's lines may quote messages: their logger's name must do.
            ours = event.get("_from_structlog", True)
            name = str(event.get("event", "")) if ours else f"{event.get('logger', 'unknown')} logged an error"
            error = event.get("_error")
            if isinstance(error, BaseException):
                scope.set_transaction_name(name)
                scope.capture_exception(error)
            else:
                # Lines of one name (and cause) are one issue, whatever ids they carry.
                scope.fingerprint = ["log", name, *([str(event["cause"])] if ours and "cause" in event else [])]
                scope.capture_message(name, level="error")
    return event


def before_send(event: "Event", _hint: "Hint") -> "Event":
    """A new report of what may pass."""
    given = cast("dict[str, Any]", event)
    passed: dict[str, Any] = {name: given[name] for name in _PASSES if name in given}
    message = given.get("message") or (given.get("logentry") or {}).get("message")
    if message:
        passed["message"] = scrubbed(str(message))
    tags = given.get("tags") or {}
    passed["tags"] = {name: scrubbed_value(tags[name]) for name in IDS if name in tags}
    runtime = (given.get("contexts") or {}).get("runtime")
    if runtime:
        passed["contexts"] = {"runtime": {name: runtime.get(name) for name in ("name", "version")}}
    values = (given.get("exception") or {}).get("values") or []
    if values:
        passed["exception"] = {"values": [_exception(each) for each in values]}
    return cast("Event", passed)


def _exception(value: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {name: value[name] for name in ("type", "module") if name in value}
    mechanism = value.get("mechanism") or {}
    kept["mechanism"] = {name: mechanism[name] for name in ("type", "handled") if name in mechanism}
    # The first line is the sentence; what follows it are quotations.
    kept["value"] = scrubbed(str(value.get("value") or "")).partition("\n")[0][:500]
    frames = (value.get("stacktrace") or {}).get("frames") or []
    if frames:
        kept["stacktrace"] = {"frames": [{n: f[n] for n in _FRAME_PASSES if f.get(n) is not None} for f in frames]}
    return kept


class Reported(dramatiq.Middleware):  # type: ignore[misc]
    """Reports work that failed for good. Outermost: it looks once the others have decided."""

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if message.failed or getattr(message, "died", False):
            _report(message, exception)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        if getattr(message, "died", False):
            _report(message, None)


def _report(message: Any, exception: BaseException | None) -> None:
    import sentry_sdk

    with sentry_sdk.new_scope() as scope:
        scope.set_tag("queue", message.queue_name)
        scope.set_tag("actor", message.actor_name)
        scope.set_tag("message_id", message.message_id)
        if exception is not None:
            scope.capture_exception(exception)
        else:
            scope.fingerprint = ["log", "message_died", message.actor_name]
            scope.capture_message("message_died", level="error")
