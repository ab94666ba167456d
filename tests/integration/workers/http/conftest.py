from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.workers.http.making import Make, made
from workers.http.service import HttpClient


@pytest.fixture
def client() -> Iterator[Make]:
    """Makes clients (see `made`), which are closed with the test."""
    clients: list[HttpClient] = []

    def make(**options: Any) -> HttpClient:
        clients.append(made(**options))
        return clients[-1]

    yield make
    for each in clients:
        each.close()
