"""Digests over HTTP, from the feed that a mirror follows."""

import tempfile
from pathlib import Path

from events.telemetry import NoTelemetry
from workers.replication.packet.names import digest_name
from workers.replication.sync.core import Base
from workers.replication.sync.fetch import Feed, FeedOptions
from workers.replication.sync.spool import Spool
from workers.replication.verify.service import MOST_BYTES


class DigestFeed(Feed):
    """A feed that has digests beside its packets; they are fetched by the same rules."""

    def digest(self, number: int) -> Path | None:
        """The digest of packet `number`, None if the feed has none. Raises as `packet` does."""
        return self._file(digest_name(number), MOST_BYTES)


def fetched_digest(base: Base, token: str | None, number: int, *, agent: str) -> bytes | None:
    """What the feed has as digest-N.json. Raises UnreachableError, RefusedError."""
    # A folder of its own: the mirror's spool is the sync's.
    with tempfile.TemporaryDirectory(prefix="mbevents-") as folder:
        spool = Spool(Path(folder), base.url)
        feed = DigestFeed(base, token, spool, FeedOptions(agent, MOST_BYTES), NoTelemetry())
        try:
            path = feed.digest(number)
            return None if path is None else path.read_bytes()
        finally:
            feed.close()
