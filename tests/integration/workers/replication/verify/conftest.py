from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.conftest import TEMPLATE
from tests.integration.workers.replication.verify.support import Connection, begin_at, connect
from workers.replication.verify.service import Options, Report, compare, compare_with_master, make_digest

# A mirror has neither foreign keys nor a master's triggers.
AS_A_MIRROR = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT conrelid::regclass AS of, conname AS name FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.of, one.name);
    END LOOP;
    FOR one IN SELECT tgrelid::regclass AS of, tgname AS name FROM pg_trigger WHERE NOT tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', one.name, one.of);
    END LOOP;
END
$$
"""


@dataclass
class Pair:
    """A master that captures, its mirror with the same rows, and a connection to each."""

    master_url: str
    mirror_url: str
    master: Connection
    mirror: Connection

    def published(self, **options: object) -> Report:
        """The mirror compared with a digest made now."""
        with connect(self.master_url) as connection:
            row = connection.execute("SELECT current_replication_sequence FROM musicbrainz.replication_control")
            (at,) = row.fetchone() or (None,)
            digest = make_digest(connection, at)
        return compare(partial(connect, self.mirror_url), digest, Options(**options))  # type: ignore[arg-type]

    def with_master(self, **options: object) -> Report:
        return compare_with_master(
            partial(connect, self.mirror_url),
            partial(connect, self.master_url),
            Options(**options),  # type: ignore[arg-type]
        )


@pytest.fixture
def pair(captured: str, clone: Callable[[str], str]) -> Iterator[Pair]:
    mirror_url = clone(TEMPLATE)
    with connect(captured) as master, connect(mirror_url) as mirror:
        mirror.execute(AS_A_MIRROR)
        begin_at(master)
        begin_at(mirror)
        yield Pair(captured, mirror_url, master, mirror)
