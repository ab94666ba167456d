import pytest

from ops.cli.output import told_meanwhile
from tests.waiting import wait_for


def test_what_takes_long_says_what_it_is_at(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "half read … (" in said

    with told_meanwhile("Beginning") as progress:
        progress("half read")
        wait_for(told)
    assert "Beginning" not in said


def test_what_is_done_at_once_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with told_meanwhile("Beginning") as progress:
        progress("half read")
    assert capsys.readouterr().err == ""
