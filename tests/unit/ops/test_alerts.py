import re

import pytest

from ops import alerts
from ops.alerts import ALERTS, Alert
from ops.metrics import DECLARATIONS, SYSTEM
from tests.unit.ops.test_metrics import ROOT

DECLARED = {each.name: {*each.labels} for each in (*DECLARATIONS, *SYSTEM)} | {"mbevents_start_time_seconds": set()}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda each: each.name)
def test_an_alert_is_of_metrics_and_labels_that_there_are_and_says_what_is_wrong(alert: Alert) -> None:
    used = re.findall(r"(mbevents_\w+)(?:\{([^}]*)\})?", alert.expr)
    assert used
    labels: set[str] = set()
    for name, matchers in used:
        assert set(re.findall(r"(\w+)[=!]", matchers)) <= DECLARED[name]
        labels |= DECLARED[name]
    told = set(re.findall(r"\$labels\.(\w+)", alert.text))
    assert told <= labels
    # What is summed away cannot be told.
    for kept in re.findall(r"by \((\w+)\)", alert.expr):
        assert told <= {kept}
    assert re.match(r"[A-Z{].*\.$", alert.text)


def test_the_committed_rules_are_the_generated_ones() -> None:
    assert (ROOT / "ops" / "docs" / "alerts.yml").read_bytes() == alerts.rules(), "run: make generate"
