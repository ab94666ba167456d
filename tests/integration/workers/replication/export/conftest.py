"""A master that has exported nothing yet: a mirror that began with its rows is at packet 0."""

from pathlib import Path

import psycopg
import pytest

from tests.integration.workers.replication.export.support import Master


@pytest.fixture
def master(captured: str, tmp_path: Path) -> Master:
    begin(captured)
    return Master(captured, tmp_path)


def begin(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE musicbrainz.replication_control DISABLE TRIGGER USER")
        connection.execute("UPDATE musicbrainz.replication_control SET current_replication_sequence = 0")
        connection.execute("ALTER TABLE musicbrainz.replication_control ENABLE TRIGGER USER")
