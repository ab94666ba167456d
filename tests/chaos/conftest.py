import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.redis.faulty import FaultyRedis
from tests.conftest import quick_folder


@pytest.fixture(scope="module")
def one_for_all() -> Iterator[FaultyRedis]:
    with tempfile.TemporaryDirectory(prefix="mbe-", dir=quick_folder()) as folder:
        made = FaultyRedis(Path(folder))
        yield made
        made.close()


@pytest.fixture
def faulty(one_for_all: FaultyRedis) -> FaultyRedis:
    """The same servers for all tests of a file; each finds them well and empty."""
    one_for_all.begin_anew()
    return one_for_all
