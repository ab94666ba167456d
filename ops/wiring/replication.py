"""Packets: made, kept, served, fetched and applied."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING

import psycopg

from events.errors import UsageError
from ops.urls import database_name
from ops.wiring.sending import Sending

if TYPE_CHECKING:
    from threading import Event

    from workers.replication.apply.options import OnDivergence
    from workers.replication.export.service import Exporter
    from workers.replication.status.service import StatusReader
    from workers.replication.store import PacketStore
    from workers.replication.sync.service import Syncer
    from workers.replication.tokens import Doorkeeper, Tokens

# All who ask for a packet wait for the tokens, one of them for the database.
_TOKENS_SECONDS = 3.0


class Replication(Sending):
    """What a master, a mirror and the feed between them need."""

    @cached_property
    def packet_store(self) -> "PacketStore":
        from workers.replication.store import open_store

        return open_store(self.settings.packet_store_url)

    @cached_property
    def feed_tokens(self) -> "Tokens":
        from workers.replication.tokens import Tokens

        return Tokens(self.connect)

    @cached_property
    def doorkeeper(self) -> "Doorkeeper":
        from ops.asking import within
        from workers.replication.tokens import Doorkeeper

        return Doorkeeper(within(_TOKENS_SECONDS, self.feed_tokens.hashes, "PostgreSQL"))

    @cached_property
    def exporter(self) -> "Exporter":
        """Raises UsageError where packets do not come from."""
        from datetime import UTC, datetime
        from functools import partial

        from ops.export import tick
        from workers.replication.export.adapters import opened
        from workers.replication.export.service import Exporter
        from workers.replication.export.signing import Gpg
        from workers.replication.store.service import retain
        from workers.replication.verify.service import publish_digest

        found = self.settings
        if found.replication_type != "RT_MASTER":
            raise UsageError(
                f"Packets are exported from a master, and REPLICATION_TYPE is {found.replication_type}. "
                "Set it to RT_MASTER if this database is where changes begin, for the bridge too."
            )
        days, count = found.packet_retention_days, found.packet_retention_count
        spool = found.mbevents_home.absolute() / "export" / database_name(self.database_url)

        def prove(sequence: int) -> None:
            every = found.replication_digest_interval
            if every and sequence % every == 0:
                publish_digest(self.connection, self.packet_store, spool.with_suffix(".digest"), sequence)

        return Exporter(
            partial(opened, self.database_url),
            self.packet_store,
            spool,
            signer=None if found.gpg_sign_key is None else Gpg(found.gpg_sign_key),
            ready=lambda: tick(self),
            prove=prove,
            tidy=lambda: retain(self.packet_store, now=datetime.now(UTC), days=days, count=count),
            note=self._note_export,
            telemetry=self.telemetry,
        )

    def _note_export(self, error: Exception | None) -> None:
        from ops.private import described
        from workers.replication.status.adapters import note_export

        # What went wrong may be the database itself; the export's own error is what is to be told then.
        with suppress(psycopg.Error), self.connection() as connection:
            note_export(connection, None if error is None else described(error))

    @cached_property
    def replication_status(self) -> "StatusReader":
        """Works in every mode. Its answers of other servers are a minute old at most."""
        from ops.checks import connected
        from ops.private import scrubbed
        from workers.replication.status.adapters import Patient, PostgresStatus, newest_upstream, packets_in
        from workers.replication.status.service import StatusReader
        from workers.replication.sync.core import parsed_base

        @contextmanager
        def known() -> Iterator[PostgresStatus]:
            with connected(self) as connection:
                yield PostgresStatus(connection)

        found = self.settings
        base = parsed_base(found.replication_base_url)
        token = None if found.replication_access_token is None else found.replication_access_token.get_secret_value()
        return StatusReader(
            found.replication_type,
            known,
            upstream=Patient(lambda: newest_upstream(base, token)).get,
            stored=Patient(lambda: packets_in(self.packet_store)).get,
            interval=(
                found.replication_export_interval
                if found.replication_type == "RT_MASTER"
                else found.replication_sync_interval
            ),
            clean=scrubbed,
        )

    def syncer(
        self,
        *,
        base_url: str | None,
        on_divergence: "OnDivergence",
        stop: "Event",
        hurry: "Event",
        say: Callable[[str], None],
    ) -> "Syncer":
        """Raises UsageError where packets do not go."""
        from functools import partial

        from ops.private import described
        from ops.version import version
        from workers.replication.apply.options import ApplyOptions
        from workers.replication.apply.source import open_source
        from workers.replication.packet.archive import Limits
        from workers.replication.sync.core import parsed_base, parsed_filters
        from workers.replication.sync.fetch import Feed, FeedOptions
        from workers.replication.sync.service import Syncer, SyncOptions
        from workers.replication.sync.spool import Spool

        found = self.settings
        if found.replication_type != "RT_MIRROR":
            raise UsageError(
                f"Packets are applied to a mirror only, and REPLICATION_TYPE is {found.replication_type}. "
                "Set it to RT_MIRROR if nobody edits this database. Nothing was done."
            )
        try:
            base = parsed_base(base_url or found.replication_base_url)
        except ValueError as error:
            raise UsageError(f"--base-url is wrong: {error}.") from None
        token = found.replication_access_token
        filters = parsed_filters(
            ignore_schemas=found.replication_ignore_schemas,
            ignore_tables=found.replication_ignore_tables,
            keep_tables=found.replication_keep_tables,
        )
        most = found.replication_packet_mb << 20
        limits = Limits(total_bytes=16 * most, member_bytes=16 * most, line_bytes=found.replication_row_mb << 20)
        spool = Spool(found.replication_spool or found.mbevents_home.absolute() / "spool", base.url)
        feed = FeedOptions(agent=f"mbevents/{version()}", most_bytes=most, signed=found.replication_gpg_key is not None)
        options = SyncOptions(
            apply=ApplyOptions(on_divergence, filters.wanted, self.source),
            filters=filters,
            interval=found.replication_sync_interval,
            open_source=partial(open_source, limits=limits),
            describe=described,
            key=found.replication_gpg_key,
            hooks=found.replication_hooks,
            hook_seconds=found.replication_hook_seconds,
        )
        secret = None if token is None else token.get_secret_value()
        return Syncer(
            self.connection,
            lambda say_retry: Feed(base, secret, spool, feed, self.telemetry, say=say_retry),
            spool,
            options,
            stop=stop,
            hurry=hurry,
            say=say,
            telemetry=self.telemetry,
        )
