import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from events.queues.worker import PARENT
from ops.supervisor import Child, Supervisor, own_command
from ops.version import version

WRITES_PARENT = "import os, sys, time; open(sys.argv[1], 'a').write(os.environ['MBEVENTS_SUPERVISOR'] + '\\n'); "


def child(name: str, code: str, *arguments: str, finishes: bool = False) -> Child:
    return Child(name, [sys.executable, "-S", "-c", code, *arguments], finishes=finishes)


def run_for(children: list[Child], seconds: float, until: Path | None = None, lines: int = 0) -> int | None:
    stop, result = threading.Event(), []
    supervisor = Supervisor(children, stop_seconds=1)
    thread = threading.Thread(target=lambda: result.append(supervisor.run(stop, os.environ)))
    thread.start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and thread.is_alive():
        if until is not None and until.exists() and len(until.read_text().splitlines()) >= lines:
            break
        time.sleep(0.05)
    stop.set()
    thread.join()
    return result[0]


def test_a_child_that_dies_is_started_again_and_knows_its_parent(tmp_path: Path) -> None:
    told = tmp_path / "told"
    assert run_for([child("a", WRITES_PARENT + "sys.exit(1)", str(told))], 20, told, 2) is None
    assert told.read_text().splitlines()[:2] == [str(os.getpid())] * 2
    assert PARENT == "MBEVENTS_SUPERVISOR"


def test_all_end_together_even_those_that_do_not_listen(tmp_path: Path) -> None:
    told = tmp_path / "told"
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    children = [
        child("a", WRITES_PARENT + "time.sleep(60)", str(told)),
        child("b", deaf + WRITES_PARENT + "time.sleep(60)", str(told)),
    ]
    assert run_for(children, 20, told, 2) is None
    # Not all children of this process: the servers of other tests are among them.
    started = [each for each in psutil.Process().children() if str(told) in _line(each)]
    assert started == []


def test_a_child_runs_in_its_folder_and_says_what_it_says_into_its_output(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        code = "import os, sys; print(os.getcwd(), file=sys.stderr); sys.exit(2)"
        one = Child("a", [sys.executable, "-S", "-c", code], folder=tmp_path, output=output)
        assert run_for([one], 20) == 2
    assert (tmp_path / "output").read_text().strip() == str(tmp_path.resolve())


@pytest.mark.parametrize("code", [2, 3])
def test_a_child_that_would_never_succeed_ends_all(tmp_path: Path, code: int) -> None:
    told = tmp_path / "told"
    children = [child("a", WRITES_PARENT + "time.sleep(60)", str(told)), child("b", f"import sys; sys.exit({code})")]
    assert run_for(children, 20) == code


def test_children_that_are_to_finish_are_not_started_again_once_they_did(tmp_path: Path) -> None:
    told = tmp_path / "told"
    fails_once = "sys.exit(len(open(sys.argv[1]).readlines()) == 1)"
    children = [
        child("a", "pass", finishes=True),
        child("b", WRITES_PARENT + fails_once, str(told), finishes=True),
    ]
    began = time.monotonic()
    assert run_for(children, 20) is None
    assert time.monotonic() - began < 15
    assert len(told.read_text().splitlines()) == 2
    assert all(each.done for each in children)


def test_a_child_that_ends_well_without_being_asked_is_started_again(tmp_path: Path) -> None:
    told = tmp_path / "told"
    assert run_for([child("a", WRITES_PARENT, str(told))], 20, told, 2) is None
    assert len(told.read_text().splitlines()) >= 2


def test_a_child_that_keeps_dying_is_started_ever_more_slowly_until_it_lived_long() -> None:
    one = child("a", "import sys; sys.exit(1)")
    with capture_logs() as said:
        for lived in [0] * 8 + [61]:
            one._start_at = 0
            one.look(os.environ)
            assert one.process is not None
            one.process.wait(20)
            one._started -= lived
            one.look(os.environ)
    assert [line["starts_again_in_seconds"] for line in said] == [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5]


def _line(process: psutil.Process) -> list[str]:
    # A zombie has none.
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_children_are_ours_whatever_lies_in_the_folder_that_we_are_in(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "__init__.py").write_text("raise SystemExit('this is somebody else')")
    told = subprocess.run(own_command("--version"), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == version()
