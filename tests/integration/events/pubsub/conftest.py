"""A log without anything else in its database."""

from collections.abc import Callable, Iterator
from importlib.resources import files

import psycopg
import pytest

from tests.integration.events.pubsub.support import Log


@pytest.fixture
def log_database(clone: Callable[[str], str]) -> str:
    """URL of a database with nothing but the log and the ledger, whose rows keep days of the log."""
    url = clone("template1")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA mbevents")
        for package in ("events.log", "events.ledger"):
            connection.execute(files(package).joinpath("schema.sql").read_bytes())
    return url


@pytest.fixture
def log(log_database: str) -> Iterator[Log]:
    with psycopg.connect(log_database, autocommit=True) as connection:
        yield Log(connection)
