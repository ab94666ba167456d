import io
import logging
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
import sentry_sdk
import structlog
from dramatiq.brokers.stub import StubBroker
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from ops import logs, sentry

ADDRESS = "jane.doe@mail.example.org"
SECRET = "s3cret"
DSN = "https://key@sentry.invalid/1"


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)


@pytest.fixture
def kept() -> Iterator[Kept]:
    transport = Kept()
    sentry.start(DSN, release="1", environment="test", transport=transport)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(form="json", stream=io.StringIO(), observers=(sentry.observer,))
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def fail(secret: str) -> None:
    local = {"private": secret, "email": ADDRESS}
    raise ValueError(f"cannot use {ADDRESS}\nDETAIL: {local['private']}")


def test_an_error_is_reported_without_variables_addresses_or_quotations(kept: Kept) -> None:
    sentry_sdk.set_user({"email": ADDRESS, "ip_address": "192.0.2.1"})
    sentry_sdk.set_context("message", {"payload": "s3cret"})
    sentry_sdk.set_extra("payload", "s3cret")
    sentry_sdk.add_breadcrumb(message=f"s3cret {ADDRESS}")
    try:
        fail(SECRET)
    except ValueError as error:
        sentry_sdk.capture_exception(error)
    sentry_sdk.get_isolation_scope().clear()
    (event,) = kept.events
    told = str(event)
    for private in (ADDRESS, "s3cret", "192.0.2.1"):
        assert private not in told
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "cannot use <e-mail>")
    assert exception["stacktrace"]["frames"][-1]["function"] == "fail"
    assert all("vars" not in frame for frame in exception["stacktrace"]["frames"])
    assert event["release"] == "mbevents@1"


def test_a_request_does_not_leave(kept: Kept) -> None:
    sentry_sdk.capture_event(
        {"message": "x", "request": {"data": "s3cret", "cookies": {"a": "s3cret"}}, "server_name": "s3cret"}
    )
    assert "s3cret" not in str(kept.events)


def test_what_is_logged_as_an_error_is_reported_with_its_ids_only(kept: Kept) -> None:
    log = structlog.get_logger("a.module")
    log.warning("only_a_warning")
    log.error("tick_failed", position=7, payload="s3cret")
    (event,) = kept.events
    assert event["message"] == "tick_failed"
    assert event["tags"] == {"position": "7"}
    assert event["fingerprint"] == ["log", "tick_failed"]
    assert "s3cret" not in str(event)


def test_lines_of_one_name_are_an_issue_for_each_cause(kept: Kept) -> None:
    for cause in ("wikipedia: timeout", "wikidata: tls"):
        structlog.get_logger().error("http_call_failed", cause=cause)
    assert [event["fingerprint"] for event in kept.events] == [
        ["log", "http_call_failed", "wikipedia: timeout"],
        ["log", "http_call_failed", "wikidata: tls"],
    ]


def test_a_logged_exception_is_reported_as_one(kept: Kept) -> None:
    try:
        fail(SECRET)
    except ValueError:
        structlog.get_logger().exception("tick_failed")
    (event,) = kept.events
    assert event["transaction"] == "tick_failed"
    assert event["exception"]["values"][0]["type"] == "ValueError"


def test_lines_of_others_are_reported_by_their_loggers_name(kept: Kept) -> None:
    logging.getLogger("some.library").error("message %s", {"payload": "s3cret"})
    (event,) = kept.events
    assert event["message"] == "some.library logged an error"
    assert "s3cret" not in str(event)


def test_work_that_failed_for_good_is_reported_without_its_message(kept: Kept) -> None:
    broker = StubBroker(middleware=[sentry.Reported()])
    broker.declare_queue("caches")
    message = dramatiq.Message("caches", "act", ("s3cret",), {"version": 1, "events": ["s3cret"]}, {})
    proxy: Any = dramatiq.MessageProxy(message)
    error = RuntimeError("it broke")
    broker.emit_after("process_message", proxy, exception=error)
    assert kept.events == []
    proxy.failed = True
    broker.emit_after("process_message", proxy, exception=error)
    (event,) = kept.events
    assert event["tags"]["actor"] == "act"
    assert "s3cret" not in str(event)
    proxy.died = True
    broker.emit_after("skip_message", proxy)
    assert kept.events[1]["message"] == "message_died"
    broker.close()
