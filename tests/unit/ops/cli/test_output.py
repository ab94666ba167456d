import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.cli import output


@dataclass
class Point:
    x: int
    at: datetime


def test_a_table_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.put_table(("NAME", "N"), [("a" * 200, None), ("b\nc", 2)])
    assert capsys.readouterr().out.splitlines() == [f"{'NAME':200}  N", f"{'a' * 200}  -", f"{'b c':200}  2"]


def test_data_are_json_whatever_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    output.put_json({"point": Point(1, at), "path": Path("/a"), "raw": b"\xff", "name": "Trentemøller"})
    out = capsys.readouterr().out
    assert "Trentemøller" in out
    assert json.loads(out)["point"] == {"x": 1, "at": "2026-05-01T00:00:00+00:00"}


def test_what_has_no_form_is_no_data() -> None:
    with pytest.raises(TypeError, match="object has no form in JSON"):
        output.put_json(object())


def test_progress_is_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("working")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "working\n")


def test_marks_are_plain_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [output.mark(each) for each in (True, False, None)] == ["ok", "FAULT", "unknown"]

    class Terminal:
        def isatty(self) -> bool:
            return True

    assert output.colours(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.colours(Terminal())
