"""The export: a packet is decided, built, put into the store, and only then taken off the database.

Each step is noted in mbevents.packet. Whoever dies on the way is followed by who goes on there.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import structlog

from events.errors import MbeventsError
from events.telemetry import NoTelemetry, Telemetry
from workers.replication.export.build import Progress, Rows, build
from workers.replication.export.core import Built, Cut, File, Outlook, Published
from workers.replication.export.spool import same
from workers.replication.packet.names import signature_name
from workers.replication.store import PacketStore

log = structlog.get_logger(__name__)


class ExportRunsError(MbeventsError):
    """Somebody else exports from this database just now."""


class Outbox(Protocol):
    """Packets on their way out of the database."""

    def begin(self) -> bool: ...
    def unpublished(self) -> Cut | None: ...
    def cut(self) -> Cut | None: ...
    def rows(self, cut: Cut) -> AbstractContextManager[Rows]: ...
    def built(self, cut: Cut, built: Built) -> None: ...
    def publish(self, cut: Cut) -> Published: ...
    def outlook(self) -> Outlook: ...


class Signer(Protocol):
    def sign(self, path: Path, signature: Path) -> None: ...


class Exporter:
    """Exports what is pending. `spool` is a folder of its own, with space for two packets and all their rows.

    `ready` is called first: it waits until what is committed is in the event log, as only that is exported. `tidy` is
    called last: packets that have had their time leave the store. `prove` is called with the sequence of each packet
    that is out, while the master is there and no further; what it raises is told, and keeps no packet back. `note` is
    told how each export ended: by what error, or by none.
    """

    def __init__(
        self,
        outbox: Callable[[], AbstractContextManager[Outbox | None]],
        store: PacketStore,
        spool: Path,
        *,
        signer: Signer | None = None,
        ready: Callable[[], None] = lambda: None,
        prove: Callable[[int], object] = lambda _: None,
        tidy: Callable[[], object] = lambda: None,
        note: Callable[[Exception | None], None] = lambda _: None,
        threads: int = 2,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._spool = spool
        self._signer = signer
        self._ready = ready
        self._prove = prove
        self._tidy = tidy
        self._note = note
        self._threads = threads
        self._telemetry = telemetry or NoTelemetry()

    def export(self, say: Progress = lambda _: None, progress: Progress = lambda _: None) -> list[Published]:
        """The packet that was on its way, if one was, and then a new one, if anything is pending.

        `say` is told what came of it where there is no packet, `progress` all the time what is being done.
        Raises ExportRunsError while somebody else exports.
        """
        try:
            published = self._export(say, progress)
        except ExportRunsError:
            raise
        except Exception as error:
            self._note(error)
            raise
        self._note(None)
        return published

    def _export(self, say: Progress, progress: Progress) -> list[Published]:
        progress("Reading into the event log what is committed")
        self._ready()
        published: list[Published] = []
        with self._outbox() as outbox:
            if outbox is None:
                raise ExportRunsError("Another export runs on this database: wait until it is done.")
            if outbox.begin():
                say(
                    "Replication begins at 0, with what the database holds now. Make the copies for mirrors now: the "
                    "next export makes packet 1."
                )
                return published
            unpublished = outbox.unpublished()
            if unpublished is not None:
                log.info("export_goes_on", sequence=unpublished.sequence)
                published.append(self._publish(outbox, unpublished, progress))
            cut = outbox.cut()
            if cut is not None:
                published.append(self._publish(outbox, cut, progress))
            self._tidy()
        if not published:
            say("Nothing has changed since the last packet.")
        return published

    def outlook(self) -> Outlook:
        """What an export would do now; it does nothing."""
        with self._outbox() as outbox:
            if outbox is None:
                raise ExportRunsError("An export runs on this database just now.")
            return outbox.outlook()

    def _publish(self, outbox: Outbox, cut: Cut, progress: Progress) -> Published:
        began = time.perf_counter()
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = self._files(outbox, cut, progress)
        # A reader must never find a packet without its signature.
        for name in [*self._signed(files), *(file.name for file in files)]:
            progress(f"Putting {name} into the store")
            self._put(name)
        published = outbox.publish(cut)
        shutil.rmtree(self._spool)
        for file in published.files:
            self._telemetry.count("mbevents_exported_bytes_total", file.size)
        self._telemetry.count("mbevents_exported_packets_total")
        self._telemetry.count("mbevents_exported_changes_total", published.changes)
        self._telemetry.observe("mbevents_export_seconds", time.perf_counter() - began)
        log.info("packet_published", sequence=cut.sequence, changes=published.changes)
        progress(f"Packet {cut.sequence} is out; making the digest of the tables, if it gets one")
        try:
            self._prove(cut.sequence)
        except Exception:
            log.exception("digest_failed", sequence=cut.sequence)
        return published

    def _files(self, outbox: Outbox, cut: Cut, progress: Progress) -> tuple[File, ...]:
        """Build the packet, unless it lies there from a run that could not end."""
        if cut.files and all(same(file, self._spool / file.name) for file in cut.files):
            return cut.files
        for path in self._spool.iterdir():
            path.unlink()
        built = build(cut, outbox.rows(cut), self._spool, threads=self._threads, progress=progress)
        if cut.files and cut.files != built.files:
            # Of a newer release, or a table's key has changed meanwhile: the same changes all the same.
            log.warning("packet_is_not_as_before", sequence=cut.sequence)
        outbox.built(cut, built)
        return built.files

    def _signed(self, files: tuple[File, ...]) -> list[str]:
        if self._signer is None:
            return []
        signatures = [signature_name(file.name) for file in files]
        for file, signature in zip(files, signatures, strict=True):
            self._signer.sign(self._spool / file.name, self._spool / signature)
        return signatures

    def _put(self, name: str) -> None:
        path = self._spool / name
        self._store.put(name, path)
        stored = self._store.stat(name)
        if stored is None or stored.size != path.stat().st_size:
            raise MbeventsError(
                f"The packet store has not kept {name} as it was given it. Nothing was taken off the database; "
                "the next export puts it again. Look whether something else writes to the store."
            )
