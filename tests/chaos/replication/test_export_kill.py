"""kill -9 of an export, at every moment of its work."""

import signal
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from tests.chaos.forks import FORKS
from tests.chaos.replication.export_process import export_and_die, exporter
from tests.integration.workers.replication.export.conftest import begin
from tests.integration.workers.replication.export.support import Master


@pytest.mark.timeout(280)
def test_killed_at_any_moment_no_packet_is_lost_or_another(captured: str, tmp_path: Path) -> None:
    begin(captured)
    master = Master(captured, tmp_path)
    survivor = exporter(captured, tmp_path)
    first, second = master.artists(2)
    deaths = 0
    exported = 0
    with psycopg.connect(captured, autocommit=True) as editor:
        for moment in range(1_000):
            editor.execute("UPDATE artist SET name = name || '!', sort_name = %s WHERE id = %s", (f"a{moment}", first))
            master.bridge.drain()
            child = FORKS.Process(target=export_and_die, args=(captured, tmp_path, moment))
            child.start()
            child.join(30)
            assert child.exitcode in (0, -signal.SIGKILL)
            deaths += child.exitcode != 0
            known = editor.execute("SELECT sequence, files FROM mbevents.packet WHERE state = 'built'").fetchall()
            visible = {name: data for name, data in master.store.there().items() if not name.endswith(".asc")}
            for name in visible:
                assert (master.store.folder / f"{name}.asc").exists(), "a packet can be seen before its signature"

            editor.execute("UPDATE artist SET name = name || '?', sort_name = %s WHERE id = %s", (f"b{moment}", second))
            master.bridge.drain()
            survivor.export()
            there = master.store.there()
            # What could be seen is still the same, and so is what was noted.
            assert {name: there[name] for name in visible} == visible
            for _, files in known:
                assert all(sha256(there[each["name"]]).hexdigest() == each["sha256"] for each in files)
            sequence = editor.execute("SELECT current_replication_sequence FROM replication_control").fetchone()
            assert sequence is not None
            told = []
            for number in range(exported + 1, sequence[0] + 1):
                assert {f"replication-{number}{end}" for end in (".tar.bz2", "-v2.tar.bz2")} <= set(there)
                told += [row.new["sort_name"] for row in master.rows(number) if row.new and "sort_name" in row.new]
            assert told == [f"a{moment}", f"b{moment}"], f"killed at moment {moment}"
            exported = sequence[0]
            assert master.left() == (0, 0, 0)
            if child.exitcode == 0:
                break
        assert deaths > 40
        master.bridge.drain()
        events = [body["data"]["number"] for body in master.publisher.bodies("packet.published")]
        assert events == list(range(1, exported + 1))
