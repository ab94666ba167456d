"""Exports by the parts that the settings ask for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from events.errors import UsageError
from events.queues.worker import run_worker
from ops.export import tick
from ops.metrics import PrometheusTelemetry, make_registry, page
from ops.settings import RedisRole, Settings
from ops.wiring import Runtime, open_runtime
from tests.integration.ops.conftest import rename
from tests.integration.workers.replication.export.conftest import begin
from tests.waiting import wait_for
from workers.replication.verify import service as verify
from workers.replication.verify.adapters import MovedOnError
from workers.replication.verify.service import read_digest


@pytest.fixture
def master(settings: Settings, tmp_path: Path) -> Iterator[Runtime]:
    changed = {"replication_type": "RT_MASTER", "mbevents_home": tmp_path, "replication_export_interval": 1}
    with open_runtime(
        settings.model_copy(update=changed), telemetry=PrometheusTelemetry(make_registry("test"))
    ) as parts:
        begin(parts.database_url)
        yield parts


@contextmanager
def leading(runtime: Runtime) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=runtime.bridge.run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: runtime.bridge.status.leading)
        yield
    finally:
        stop.set()
        thread.join(20)


def position(runtime: Runtime) -> int:
    with runtime.connection() as connection:
        row = connection.execute("SELECT position FROM mbevents.head").fetchone()
        assert row is not None
        return int(row[0])


def test_what_is_committed_is_ticked_first_where_no_bridge_leads(master: Runtime) -> None:
    changed = rename(master)
    tick(master)
    assert position(master) == changed


def test_what_is_committed_is_ticked_first_by_the_bridge_that_leads(master: Runtime) -> None:
    with leading(master):
        for round_ in range(1, 4):
            changed = rename(master)
            tick(master)
            assert position(master) == round_ * changed


def test_a_transaction_that_is_in_progress_holds_nobody_up(master: Runtime) -> None:
    with master.connection() as slow, slow.transaction():
        slow.execute("UPDATE musicbrainz.label SET name = name || '!'")
        changed = rename(master)
        tick(master)
        assert position(master) == changed


def test_the_actor_exports_what_the_scheduler_sends_and_once_is_enough(master: Runtime) -> None:
    rename(master)
    for _ in range(3):
        master.send_export()
    assert sum(depth.waiting for depth in master.sender.depths().values()) == 1
    run_worker(master.worker_broker, threads=2, stop=threading.Event(), drain=True)
    assert master.packet_store.stat("replication-1-v2.tar.bz2") is not None
    assert master.packet_store.stat("replication-1.tar.bz2") is not None
    assert isinstance(master.telemetry, PrometheusTelemetry)
    told = page(master.telemetry.registry).decode()
    assert "mbevents_exported_packets_total 1.0" in told
    assert "mbevents_export_seconds_count 1.0" in told


def test_an_export_that_fails_is_counted_and_leaves_no_dead_letter(
    master: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename(master)
    folder = master.settings.mbevents_home / "packets"
    folder.write_text("not a folder")
    master.send_export()
    run_worker(master.worker_broker, threads=2, stop=threading.Event(), drain=True)
    assert isinstance(master.telemetry, PrometheusTelemetry)
    assert "mbevents_export_failures_total 1.0" in page(master.telemetry.registry).decode()
    assert master.client(RedisRole.BROKER).zcard("MB:replication.dead") == 0
    folder.unlink()
    master.send_export()
    run_worker(master.worker_broker, threads=2, stop=threading.Event(), drain=True)
    assert master.packet_store.stat("replication-1-v2.tar.bz2") is not None


def test_digests_are_published_at_their_interval(settings: Settings, tmp_path: Path) -> None:
    changed = {"replication_type": "RT_MASTER", "mbevents_home": tmp_path, "replication_digest_interval": 2}
    with open_runtime(settings.model_copy(update=changed)) as master:
        begin(master.database_url)
        for _ in range(2):
            rename(master)
            master.exporter.export()
        names = {stored.name for stored in master.packet_store.list()}
        assert {name for name in names if name.startswith("digest")} == {"digest-2.json"}
        digest = read_digest(master.packet_store.read("digest-2.json"), "digest-2.json")
        assert (digest.sequence, digest.tables["musicbrainz.artist"].count > 0) == (2, True)


def test_a_digest_that_fails_keeps_no_packet_back(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MovedOnError("no")

    monkeypatch.setattr(verify, "publish_digest", fail)
    changed = {"replication_type": "RT_MASTER", "mbevents_home": tmp_path, "replication_digest_interval": 1}
    with open_runtime(settings.model_copy(update=changed)) as master:
        begin(master.database_url)
        rename(master)
        assert [published.sequence for published in master.exporter.export()] == [1]
        assert master.exporter.export() == []


@pytest.mark.parametrize("kind", ["RT_STANDALONE", "RT_MIRROR"])
def test_only_a_master_exports(settings: Settings, kind: str) -> None:
    changed = settings.model_copy(update={"replication_type": kind})
    with open_runtime(changed) as parts, pytest.raises(UsageError, match=f"REPLICATION_TYPE is {kind}"):
        _ = parts.exporter
