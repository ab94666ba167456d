"""A master that captures, and a mirror that was its copy."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from ops.stack import Stack
from ops.stack.schema import make_mirror
from producers.capture.service import install
from tests.conftest import TEMPLATE

Connection = psycopg.Connection[Any]


def _template(stack: Stack, name: str, *, mirror: bool) -> str:
    with psycopg.connect(stack.database_url("postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            # The tests of another folder have these fixtures too.
            return name
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
        )
    with psycopg.connect(stack.database_url(name), autocommit=True) as connection:
        connection.execute("SET search_path = musicbrainz, public")
        connection.execute("UPDATE replication_control SET current_replication_sequence = 0")
        if mirror:
            make_mirror(connection)
        install(connection, replication_type="RT_MIRROR" if mirror else "RT_MASTER")
    return name


@pytest.fixture(scope="session")
def master_template(stack: Stack) -> str:
    """A master at replication sequence 0, with capture."""
    return _template(stack, "replication_master", mirror=False)


@pytest.fixture(scope="session")
def mirror_template(stack: Stack) -> str:
    """Its mirror at the same sequence, with a mirror's triggers and the event log."""
    return _template(stack, "replication_mirror", mirror=True)


@pytest.fixture
def master_url(clone: Callable[[str], str], master_template: str) -> str:
    return clone(master_template)


@pytest.fixture
def mirror_url(clone: Callable[[str], str], mirror_template: str) -> str:
    return clone(mirror_template)


@pytest.fixture
def master(master_url: str) -> Iterator[Connection]:
    with psycopg.connect(master_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def mirror(mirror_url: str) -> Iterator[Connection]:
    with psycopg.connect(mirror_url, autocommit=True) as connection:
        yield connection
