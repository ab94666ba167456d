import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from ops.stack import errors


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100 * 2**20, 100 * 2**20 - free, free))


def test_a_full_disk_is_known_by_what_the_server_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_free(monkeypatch, 50 * 2**20)
    error = errors.disk_full(tmp_path / "not" / "there", 'FATAL: could not write "x": No space left on device')
    assert error is not None
    assert "50 MiB of 100 MiB free" in str(error)
    assert "MBEVENTS_HOME" in str(error)


def test_a_full_disk_is_known_by_its_free_space_when_the_log_was_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_free(monkeypatch, 1000)
    assert errors.disk_full(tmp_path, "") is not None


def test_any_other_failure_is_no_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_free(monkeypatch, 50 * 2**20)
    assert errors.disk_full(tmp_path, "FATAL: something else") is None
