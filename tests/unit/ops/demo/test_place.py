import os
import time
from pathlib import Path

import pytest

from ops.demo.place import environment, forget_libpq, temporary_home


def test_nothing_that_is_configured_reaches_the_demo_s_processes() -> None:
    given = {
        "PATH": "/bin",
        "NO_COLOR": "1",
        "DATABASE_URL": "postgresql://production",
        "DATABASE_URL_FILE": "/run/secrets/url",
        "REDIS_SERVER": "redis://production",
        "BROKER_URL": "amqp://production",
        "SENTRY_DSN": "https://sentry.example/1",
        "METRICS_LISTEN": "127.0.0.1:9100",
        "MBEVENTS_HOME": "/somewhere/else",
        "MBEVENTS_METRICS_PORTS": "2",
    }
    home = Path("/tmp/home")
    assert environment(given, home) == {
        "PATH": "/bin",
        "NO_COLOR": "1",
        "MBEVENTS_HOME": "/tmp/home",
        "LOG_FORMAT": "json",
        "WORKER_THREADS": "4",
    }


def test_what_libpq_reads_from_the_environment_is_forgotten() -> None:
    environ = {"PATH": "/bin", "PGHOSTADDR": "192.0.2.1", "PGSERVICE": "production", "PGOPTIONS": "-c work_mem=1MB"}
    forget_libpq(environ)
    assert environ == {"PATH": "/bin"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_the_home_is_temporary_and_goes_with_whatever_is_in_it(folder: Path) -> None:
    with temporary_home() as home:
        assert home.parent == folder
        (home / "left").write_text("behind")
    assert list(folder.iterdir()) == []


def test_what_killed_demos_left_is_removed_but_not_what_may_still_run(folder: Path) -> None:
    old, young, other = (folder / name for name in ("mbevents-demo-old", "mbevents-demo-young", "old"))
    for each in (old, young, other):
        each.mkdir()
    (old / "postgres.log").touch()
    for each in (old, other):
        os.utime(each, (time.time() - 3600,) * 2)
    with temporary_home() as home:
        assert sorted(folder.iterdir()) == sorted([home, young, other])
