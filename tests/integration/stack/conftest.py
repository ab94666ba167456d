import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from ops.stack import control, place
from tests.conftest import quick_folder


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of its own, at a short path that PostgreSQL's user can enter; whatever runs in it is stopped."""
    parent = Path(tempfile.mkdtemp(prefix="mbe-", dir=quick_folder()))
    parent.chmod(0o755)
    folder = parent / "home"
    yield folder
    if folder.exists():
        control.stop_servers(folder)
        control.end_keeper(folder)
    shutil.rmtree(place.outside_of(folder), ignore_errors=True)
    shutil.rmtree(parent)


def missing(what: str) -> NoReturn:
    """Say that this machine lacks what a test needs; where everything must be there (CI), fail."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
