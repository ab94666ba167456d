import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import ops
from ops import metrics
from ops.metrics import DECLARATIONS, SYSTEM, Asked, PrometheusTelemetry, UnknownMetricError

ROOT = Path(ops.__file__).parent.parent


def test_what_is_counted_is_on_the_page() -> None:
    registry = metrics.make_registry("1.2")
    telemetry = PrometheusTelemetry(registry)
    telemetry.count("mbevents_events_total", 3, type="edit.opened")
    telemetry.count("mbevents_events_total", 2, type="edit.opened")
    telemetry.gauge("mbevents_log_position", 7)
    telemetry.observe("mbevents_end_to_end_seconds", 0.004, actor="caches.invalidate")
    page = metrics.page(registry).decode()
    assert 'mbevents_events_total{type="edit.opened"} 5.0' in page
    assert "mbevents_log_position 7.0" in page
    assert 'mbevents_end_to_end_seconds_bucket{actor="caches.invalidate",le="0.005"} 1.0' in page
    assert 'mbevents_build_info{version="1.2"} 1.0' in page


def test_a_process_tells_nothing_of_what_it_does_not_do() -> None:
    registry = metrics.make_registry("1")
    PrometheusTelemetry(registry).gauge("mbevents_bridge_leader", 0)
    page = metrics.page(registry).decode()
    assert "mbevents_bridge_leader 0.0" in page
    assert "mbevents_jobs_total" not in page
    assert "mbevents_bridge_connected" not in page


@pytest.mark.parametrize(
    ("method", "name", "labels", "told"),
    [
        ("count", "mbevents_evens_total", {}, "mbevents_evens_total is not declared. Declare it in ops/metrics.py"),
        ("count", "mbevents_events_total", {}, r"has the labels \['type'\], and is used with \[\]"),
        ("count", "mbevents_ticks_total", {"mbid": "x"}, r"used with \['mbid'\]"),
        ("gauge", "mbevents_ticks_total", {}, "is a counter, and is used as a gauge"),
        ("observe", "mbevents_log_position", {}, "is a gauge, and is used as a histogram"),
    ],
)
def test_what_is_not_declared_raises(method: str, name: str, labels: dict[str, str], told: str) -> None:
    telemetry = PrometheusTelemetry(CollectorRegistry())
    with pytest.raises(UnknownMetricError, match=told):
        getattr(telemetry, method)(name, 1, **labels)


def test_a_running_process_tells_it_and_goes_on() -> None:
    told: list[UnknownMetricError] = []
    PrometheusTelemetry(CollectorRegistry(), on_error=told.append).count("mbevents_evens_total")
    assert len(told) == 1


def test_labels_in_another_order_are_the_same_metric() -> None:
    registry = CollectorRegistry()
    telemetry = PrometheusTelemetry(registry)
    telemetry.count("mbevents_jobs_total", queue="q", actor="a", outcome="done")
    telemetry.count("mbevents_jobs_total", outcome="done", actor="a", queue="q")
    assert 'mbevents_jobs_total{actor="a",outcome="done",queue="q"} 2.0' in metrics.page(registry).decode()


@pytest.mark.parametrize("declaration", [*DECLARATIONS, *SYSTEM], ids=lambda each: each.name)
def test_every_declaration_keeps_the_conventions(declaration: metrics.Declaration) -> None:
    assert declaration.name.startswith("mbevents_")
    assert declaration.help.endswith(".")
    assert declaration.name.endswith("_total") == (declaration.kind == "counter")
    if declaration.kind == "histogram":
        assert declaration.name.endswith("_seconds")
        assert list(declaration.buckets) == sorted(declaration.buckets)
    assert not {"mbid", "edit", "editor", "id", "position"} & set(declaration.labels)


def test_every_metric_that_the_code_uses_is_declared_and_every_declared_one_is_used() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for package in ("events", "producers", "workers", "ops")
        for path in (ROOT / package).rglob("*.py")
        if path != Path(metrics.__file__)
    )
    used = set(re.findall(r'(?:count|gauge|observe)\(\s*"(mbevents_\w+)"', code))
    assert used == {each.name for each in DECLARATIONS}
    asked = set(re.findall(r'\(\s*"(mbevents_\w+)", \{', code))
    assert asked == {each.name for each in SYSTEM}


def test_system_gauges_are_asked_for_when_scraped_and_not_more_often_than_said() -> None:
    asked = 0

    def ask() -> list[tuple[str, dict[str, str], float]]:
        nonlocal asked
        asked += 1
        return [("mbevents_queue_messages", {"queue": "caches", "state": "waiting"}, asked)]

    registry = CollectorRegistry()
    registry.register(Asked(ask, every=60))
    assert asked == 0
    assert 'mbevents_queue_messages{queue="caches",state="waiting"} 1.0' in metrics.page(registry).decode()
    metrics.page(registry)
    assert asked == 1


def test_a_system_gauge_that_is_not_declared_raises() -> None:
    asked = Asked(lambda: [("mbevents_queue_messages", {}, 1.0)])
    with pytest.raises(UnknownMetricError, match="mbevents_queue_messages"):
        list(asked.collect())


def test_the_committed_page_is_the_generated_one() -> None:
    committed = ROOT / "ops" / "docs" / "metrics.md"
    assert committed.read_text(encoding="utf-8") == metrics.metrics_page(), "run: make generate"
