from collections.abc import Callable, Iterator

import pytest

from tests.conftest import TEMPLATE
from tests.integration.workers.replication.verify.support import Pair, make_pair


@pytest.fixture
def pair(captured: str, clone: Callable[[str], str]) -> Iterator[Pair]:
    with make_pair(captured, clone(TEMPLATE)) as made:
        yield made
