import json
import threading
from pathlib import Path
from typing import Any

import pytest

from events.errors import MbeventsError
from ops.demo import run
from ops.demo.observe import InterruptedDemoError

TOLD: dict[str, Any] = {
    "ok": True,
    "seconds": 1.0,
    "latency": {},
    "recovery_seconds": {},
    "rows": 1,
    "events": {"edit.voted": 1},
    "events_total": 1,
    "tasks": 0,
    "missing": [],
}


@pytest.fixture(autouse=True)
def _logs_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a process's to set up logs; the other tests have theirs in this one."""
    monkeypatch.setattr("ops.logs.configure", lambda **_: None)


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_it_ends_well_only_when_everything_was_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ok: bool, code: int
) -> None:
    told = TOLD | {"ok": ok, "missing": [] if ok else ["rename: cache: artist 95e9aba6"]}
    monkeypatch.setattr(run.Demo, "run", lambda _: told)
    assert run.main(as_json=True) == code
    out, err = capsys.readouterr()
    assert json.loads(out) == told
    assert ("Everything arrived" in err) is ok
    assert ("rename: cache: artist 95e9aba6" in err) is not ok


def test_interrupted_it_says_so_and_prints_no_summary(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: run.Demo) -> dict[str, Any]:
        raise InterruptedDemoError("Interrupted.")

    monkeypatch.setattr(run.Demo, "run", interrupted)
    assert run.main(as_json=True) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "Interrupted" in err


@pytest.mark.parametrize(("asked", "told"), [(True, InterruptedDemoError), (False, MbeventsError)])
def test_what_fails_because_somebody_interrupted_it_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: bool, told: type[MbeventsError]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    stop = threading.Event()
    if asked:
        stop.set()

    def fail(*_: object) -> None:
        raise MbeventsError("initdb was killed")

    demo = run.Demo(_Silent(), stop)  # type: ignore[arg-type]  # it says nothing here
    monkeypatch.setattr(demo, "_play", fail)
    with pytest.raises(told) as raised:
        demo.run()
    assert type(raised.value) is told
    assert list(tmp_path.iterdir()) == []


class _Silent:
    pass
