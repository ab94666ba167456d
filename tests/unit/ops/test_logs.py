import io
import json
import logging
import warnings
from collections.abc import Iterator

import psycopg
import pytest
import structlog

from ops import logs

ADDRESS = "jane.doe@mail.example.org"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_bound_ids() -> None:
    stream = io.StringIO()
    logs.configure(form="json", stream=stream)
    with logs.bound(queue="caches", task_id=7):
        structlog.get_logger("a.module").info("task_done", rows=3)
    structlog.get_logger("a.module").info("later")
    first, second = lines(stream)
    assert first.pop("timestamp")
    assert first == {
        "level": "info", "event": "task_done", "logger": "a.module", "queue": "caches", "task_id": 7, "rows": 3,
    }  # fmt: skip
    assert "queue" not in second


def test_lines_of_the_standard_library_take_the_same_way() -> None:
    stream = io.StringIO()
    logs.configure(form="json", stream=stream)
    logging.getLogger("dramatiq.broker").warning("lost %s, %d times", ADDRESS, 3)
    logging.getLogger("dramatiq.broker").info("a message arrived")
    logging.getLogger("some.library").info("told", extra={"account": ADDRESS})
    first, second = lines(stream)
    assert (first["event"], first["said"]) == ("dramatiq_log", "lost <e-mail>, 3 times")
    assert second["account"] == "<e-mail>"


def test_that_the_broker_is_away_is_said_by_all_consumers_once_and_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    logs.configure(form="json", stream=stream)

    def away(queue: str) -> None:
        logger = logging.getLogger(f"dramatiq.worker.ConsumerThread({queue})")
        logger.critical("Consumer encountered a connection error: %s", "Redis: refused")

    for queue in ("caches", "artwork", "caches"):
        away(queue)
    monkeypatch.setattr(logs, "REPEAT_SECONDS", 0)
    away("caches")
    first, second = lines(stream)
    assert (first["event"], first["level"]) == ("broker_unreachable", "warning")
    assert first["said"] == "Consumer encountered a connection error: Redis: refused"
    assert "repeated" not in first
    assert second["repeated"] == 2


def test_different_things_that_a_library_says_are_all_told_with_their_level() -> None:
    stream = io.StringIO()
    logs.configure(form="json", stream=stream)
    pool = logging.getLogger("psycopg.pool")
    for _ in range(2):
        pool.warning("error connecting in %r", "pool-1")
        pool.error("gave up on %r", "pool-1")
    assert [(line["event"], line["level"]) for line in lines(stream)] == [
        ("psycopg_log", "warning"),
        ("psycopg_log", "error"),
    ]


def test_what_is_only_a_warning_to_us_is_not_told_above_that_level() -> None:
    stream = io.StringIO()
    logs.configure(form="json", level="ERROR", stream=stream)
    logging.getLogger("dramatiq.worker").critical("Consumer encountered a connection error: %s", "refused")
    assert lines(stream) == []


def test_headers_of_http_are_in_no_line_whatever_the_level() -> None:
    from hpack import Encoder

    stream = io.StringIO()
    logs.configure(form="json", stream=stream, level="DEBUG")
    Encoder().encode([("authorization", "s3cret")])
    for name in ("httpcore.http11", "hpack.hpack", "h2.connection"):
        logging.getLogger(name).debug("receive_response_headers.complete %r", [(b"set-cookie", b"s3cret")])
    assert lines(stream) == []


def test_warnings_are_lines_too() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure(form="json", stream=stream)
        warnings.warn("out of date", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "out of date" in str(lines(stream)[0]["event"])


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_address_password_or_row_is_ever_logged(form: str) -> None:
    stream = io.StringIO()
    logs.configure(form=form, stream=stream)
    log = structlog.get_logger()
    log.warning(
        "odd", who=ADDRESS, url=f"redis://:s3cret@{ADDRESS}", nested={"a": [{"b": ADDRESS}]}, raw=ADDRESS.encode()
    )
    try:
        raise psycopg.errors.UniqueViolation(
            f'duplicate key violates "editor_name"\nDETAIL:  Key (email)=(s3cret {ADDRESS}) exists.\nCONTEXT: s3cret'
        )
    except psycopg.Error:
        log.exception("failed", problem=ValueError(ADDRESS))
    told = stream.getvalue()
    assert ADDRESS not in told
    assert "s3cret" not in told
    assert "<e-mail>" in told


def test_an_exception_is_told_with_its_place_and_without_its_variables() -> None:
    stream = io.StringIO()
    logs.configure(form="json", stream=stream)

    def broken() -> None:
        hidden_variable = "payload"
        raise RuntimeError(f"nothing works, {len(hidden_variable)}")

    try:
        broken()
    except RuntimeError:
        structlog.get_logger().exception("failed")
    told = str(lines(stream)[0]["exception"])
    assert "RuntimeError: nothing works" in told
    assert "in broken" in told
    assert "exc_info" not in lines(stream)[0]


def test_the_level_is_the_least_that_is_logged() -> None:
    stream = io.StringIO()
    logs.configure(form="json", level="WARNING", stream=stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_lines_for_reading_have_no_colours_off_a_terminal() -> None:
    stream = io.StringIO()
    logs.configure(form="console", stream=stream)
    structlog.get_logger().info("told", n=1)
    assert "\x1b" not in stream.getvalue()
    assert "told" in stream.getvalue()


def test_off_a_terminal_auto_is_json() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger().info("told")
    assert lines(stream)[0]["event"] == "told"
