import signal
from collections.abc import Iterator

import pytest

from ops.service import running
from ops.settings import Settings


@pytest.fixture(autouse=True)
def _hangups_count() -> Iterator[None]:
    # Under nohup the tests would inherit that they do not.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_a_service_ends_when_it_is_asked_to_and_only_an_interrupt_is_told_as_one(
    number: signal.Signals, code: int
) -> None:
    with running("web", Settings()) as service:
        assert not service.stop.is_set()
        signal.raise_signal(number)
        assert service.stop.is_set()
        assert service.exit_code == code


def test_a_service_under_nohup_outlives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with running("web", Settings()) as service:
        signal.raise_signal(signal.SIGHUP)
        assert not service.stop.is_set()
