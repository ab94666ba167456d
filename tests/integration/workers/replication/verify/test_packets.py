"""Digests beside packets that the real export made and the real apply took in, while others write."""

import threading
from functools import partial
from pathlib import Path

from tests.integration.workers.replication.conftest import Connection
from tests.integration.workers.replication.export.support import Master
from tests.integration.workers.replication.verify.support import connect
from workers.replication.apply.options import ApplyOptions
from workers.replication.apply.service import apply_packet
from workers.replication.apply.source import open_source
from workers.replication.packet.names import packet_name
from workers.replication.verify.service import Options, compare, make_digest


def test_a_mirror_that_applied_the_exports_packets_has_the_digests_made_after_them(
    master: Connection, master_url: str, mirror: Connection, mirror_url: str, tmp_path: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        with connect(master_url) as connection:
            # A bridge that drains ends when nothing is left.
            while not stop.wait(0.05):
                connection.execute("UPDATE artist SET comment = gen_random_uuid()::text WHERE id % 5 = 0")
                connection.execute("INSERT INTO tag (name) VALUES (gen_random_uuid()::text)")
                connection.execute("DELETE FROM tag WHERE id % 7 = 0")

    exporting = Master(master_url, tmp_path)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        at = 0
        while at < 3:
            for published in exporting.export():
                at = published.sequence
                digest = make_digest(master, at)
                packet = open_source(exporting.store.folder / packet_name(at, 2))
                apply_packet(mirror, packet, ApplyOptions(events="mb://mirror"))
                report = compare(partial(connect, mirror_url), digest, Options())
                assert [each.table for each in report.tables if not each.same] == []
    finally:
        stop.set()
        writer.join()
