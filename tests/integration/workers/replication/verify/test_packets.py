"""Digests beside packets that the real export made."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.conftest import TEMPLATE
from tests.integration.workers.replication.export.support import Master
from tests.integration.workers.replication.verify.support import START, Change, apply, connect, make_pair
from workers.replication.packet import copytext, names
from workers.replication.verify.service import Options, compare, make_digest


def packet(master: Master, number: int) -> list[Change]:
    members = master.members(number)
    keys = dict(line.split("\t") for line in members[names.PENDING_KEYS].decode().splitlines())
    lines = (copytext.decode(line) for line in members[names.PENDING_DATA].splitlines())
    return [
        Change(
            (table or b"").decode(),
            keys[(table or b"").decode()].strip("{}").split(","),
            None if old is None else old.decode(),
            None if new is None else new.decode(),
        )
        for _, table, _, _, old, new, _, _ in lines
    ]


def test_a_mirror_that_applied_the_exports_packets_has_the_digests_made_after_them(
    captured: str, clone: Callable[[str], str], tmp_path: Path
) -> None:
    mirror_url = clone(TEMPLATE)
    stop = threading.Event()

    def write() -> None:
        with connect(captured) as connection:
            while not stop.is_set():
                connection.execute("UPDATE musicbrainz.artist SET comment = gen_random_uuid()::text WHERE id > 2")
                connection.execute("INSERT INTO musicbrainz.tag (name) VALUES (gen_random_uuid()::text)")
                connection.execute("DELETE FROM musicbrainz.tag WHERE id % 7 = 0")

    with make_pair(captured, mirror_url) as pair:
        master = Master(captured, tmp_path)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            at = 0
            while at < START + 3:
                for published in master.export():
                    at = published.sequence
                    digest = make_digest(pair.master, at)
                    apply(pair.mirror, packet(master, at))
                    report = compare(partial(connect, mirror_url), digest, Options())
                    assert [each.table for each in report.tables if not each.same] == []
        finally:
            stop.set()
            writer.join()
