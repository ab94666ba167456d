import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis
from prometheus_client import CollectorRegistry

from events.errors import UnreachableError
from ops import checks, doctor, metrics
from ops.asking import in_thread
from ops.doctor import Finding
from ops.metrics import Asked
from ops.settings import RedisRole, Settings
from ops.wiring import Runtime, open_runtime
from tests.integration.ops.conftest import rename
from tests.proxy import Proxy
from tests.redis_process import RedisProcess
from tests.waiting import wait_for

AWAY = {"database_url": "postgresql://postgres@/mb?host=/nonexistent", "redis_server": "unix:///nonexistent/redis.sock"}


def found(findings: list[Finding]) -> dict[str, Finding]:
    return {each.check: each for each in findings}


def page(runtime: Runtime) -> str:
    registry = CollectorRegistry()
    registry.register(Asked(checks.system_samples(runtime)))
    return metrics.page(registry).decode()


def test_servers_that_answer_pass(runtime: Runtime) -> None:
    checks.database_check(runtime)()
    for role in RedisRole:
        checks.redis_check(runtime, role)()


def test_servers_that_are_away_are_told_soon() -> None:
    with open_runtime(Settings.model_validate(AWAY)) as runtime:
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            checks.database_check(runtime)()
        with pytest.raises(redis.ConnectionError):
            checks.redis_check(runtime, RedisRole.BROKER)()
        assert time.monotonic() - began < 5


def test_a_database_without_our_tables_is_not_ready(runtime: Runtime) -> None:
    with runtime.connection() as connection:
        connection.execute("DROP SCHEMA mbevents CASCADE")
    with pytest.raises(UnreachableError, match="mbevents db install"):
        checks.database_check(runtime)()


def test_the_age_of_the_log_is_that_of_the_oldest_change_that_nobody_published(runtime: Runtime) -> None:
    with runtime.connection() as connection:
        assert checks.log_age(connection) == 0
        rename(runtime)
        time.sleep(0.2)
        assert 0.2 <= checks.log_age(connection) < 10
        runtime.bridge.drain()
        assert checks.log_age(connection) == 0
        connection.execute(
            "INSERT INTO mbevents.outbox (xid, ts, kind, op) "
            "VALUES (pg_current_xact_id()::text::bigint, now(), 'vote', 'i')"
        )
        time.sleep(0.05)
        assert checks.log_age(connection) > 0
        connection.execute("DELETE FROM mbevents.outbox")
        connection.execute("UPDATE mbevents.head SET published = published - 1")
        assert checks.log_age(connection) > 0


def test_the_system_is_measured_when_asked(runtime: Runtime) -> None:
    changed = rename(runtime)
    runtime.bridge.drain()
    told = page(runtime)
    assert f"mbevents_head_position {changed}.0" in told
    assert 'mbevents_queue_messages{queue="caches",state="waiting"} 1.0' in told
    assert 'mbevents_tasks{state="queued"} 1.0' in told
    assert "mbevents_workers 0.0" in told
    assert 'mbevents_server_up{server="database"} 1.0' in told


def test_a_server_that_is_away_is_a_value_and_the_rest_is_still_told() -> None:
    with open_runtime(Settings.model_validate(AWAY)) as runtime:
        told = page(runtime)
    assert 'mbevents_server_up{server="database"} 0.0' in told
    assert 'mbevents_server_up{server="broker"} 0.0' in told


def test_a_system_without_its_processes_has_two_faults_with_their_fixes(runtime: Runtime) -> None:
    findings = found(doctor.examine(runtime))
    assert {name for name, each in findings.items() if each.ok is False} == {"bridge", "workers"}
    assert all(each.fix for each in findings.values() if each.ok is False)
    assert not doctor.healthy(findings.values())


def test_a_bridge_that_leads_and_a_worker_that_beats_are_found(runtime: Runtime) -> None:
    stop = threading.Event()
    bridge = threading.Thread(target=runtime.bridge.run, args=(stop,))
    bridge.start()
    runtime.worker_broker.consume("caches")  # type: ignore[attr-defined]  # Dramatiq's own side of a broker
    try:
        deadline = time.monotonic() + 10
        while not doctor.healthy(findings := doctor.examine(runtime)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert doctor.healthy(findings), [each for each in findings if not each.ok]
        assert "leads (backend" in found(findings)["bridge"].detail
    finally:
        stop.set()
        bridge.join()


def test_a_worker_that_stopped_is_not_alive_any_more(settings: Settings, runtime: Runtime) -> None:
    with open_runtime(settings) as worker:
        worker.worker_broker.consume("caches")  # type: ignore[attr-defined]  # Dramatiq's own side of a broker
        wait_for(lambda: checks.workers_alive(runtime) == 1)
    assert checks.workers_alive(runtime) == 0
    assert runtime.reaper.run_once().workers == 0


def test_a_worker_is_found_right_after_redis_has_started_again(home: Path, settings: Settings) -> None:
    beside = Settings.model_validate({"database_url": settings.database_url, "mbevents_home": home})
    with open_runtime(beside, create_redis=True) as runtime:
        runtime.worker_broker.consume("caches")  # type: ignore[attr-defined]  # Dramatiq's own side of a broker
        assert found(doctor.examine(runtime))["workers"].ok
        assert runtime.servers is not None
        assert runtime.servers.redis is not None
        runtime.servers.redis.stop()
        runtime.servers.redis.start()
        assert found(doctor.examine(runtime))["workers"].ok


def test_every_fault_is_found(runtime: Runtime) -> None:
    client = runtime.client(RedisRole.BROKER)
    policy = str(client.config_get("maxmemory-policy")["maxmemory-policy"])
    rename(runtime)
    runtime.bridge.drain()
    with runtime.connection() as connection:
        connection.execute("DROP TRIGGER reptg2_artist ON musicbrainz.artist")
        connection.execute(
            "INSERT INTO mbevents.dead_letter (delivery_id, queue, message, error) VALUES ('1', 'caches', '{}', 'x')"
        )
        connection.execute("UPDATE mbevents.head SET published = published - 1")
        connection.execute("ALTER TABLE mbevents.event DISABLE TRIGGER ALL")
        connection.execute(
            "UPDATE mbevents.event SET recorded_at = greatest(date_trunc('day', now()), now() - interval '1 h')"
        )
    try:
        client.config_set("maxmemory-policy", "allkeys-lru")
        findings = found(doctor.examine(runtime))
    finally:
        client.config_set("maxmemory-policy", policy)
    assert "reptg2_artist" in findings["capture"].detail
    assert findings["capture"].fix == "Run `mbevents db install`."
    assert findings["dead letters"].detail == "1 in caches"
    assert findings["redis broker"].ok is False
    assert findings["redis sessions"].ok is False
    assert findings["redis entities"].ok
    assert not findings["log"].ok


def test_servers_that_are_away_are_faults_and_what_follows_is_unknown() -> None:
    with open_runtime(Settings.model_validate(AWAY)) as runtime:
        findings = found(doctor.examine(runtime))
    assert findings["database"].ok is False
    assert findings["capture"].ok is None
    assert findings["redis broker"].ok is False
    assert findings["queues"].ok is None


def test_servers_that_hang_cost_a_few_seconds_together_and_are_told_in_the_same_order(
    settings: Settings, start_redis: Callable[..., RedisProcess]
) -> None:
    assert settings.database_url is not None
    url = urlsplit(settings.database_url.get_secret_value())
    proxy, server = Proxy(f"{parse_qs(url.query)['host'][0]}/.s.PGSQL.5432"), start_redis()
    proxy.silent = True
    server.send(signal.SIGSTOP)
    hanging = {
        "database_url": f"postgresql://postgres@127.0.0.1:{proxy.port}{url.path}",
        "redis_server": f"unix://{server.socket}",
    }
    try:
        with open_runtime(Settings.model_validate(hanging)) as runtime:
            began = time.monotonic()
            scraped = in_thread(lambda: (page(runtime), time.monotonic() - began))
            findings = doctor.examine(runtime)
            assert time.monotonic() - began < 6
            measured, seconds = scraped.result()
    finally:
        server.send(signal.SIGCONT)
        proxy.close()
    assert seconds < 5
    assert measured.count("mbevents_server_up{") == measured.count("} 0.0") == 1 + len(RedisRole)
    database = ["database", "capture", "log", "bridge", "dead letters", "clock"]
    roles = [f"redis {role.name.lower()}" for role in RedisRole]
    assert [each.check for each in findings] == [*database, *roles, "queues", "workers"]
    assert {each.check for each in findings if each.ok is False} == {"database", *roles}
    assert not any(each.ok for each in findings)


def test_what_hangs_holds_one_thread_however_often_somebody_scrapes(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, let_go = list[Runtime](), threading.Event()

    def hangs(runtime: Runtime) -> list[checks.Sample]:
        asked.append(runtime)
        let_go.wait(20)
        return []

    monkeypatch.setattr(checks, "LONGEST_SECONDS", 0.05)
    monkeypatch.setattr(checks, "_of_replication", hangs)
    samples = checks.system_samples(runtime)
    for _ in range(3):
        assert list(samples())
    assert len(asked) == 1
    let_go.set()
    monkeypatch.undo()
    wait_for(lambda: ("mbevents_server_up", {"server": "database"}, True) in samples())


def test_a_database_that_is_none_of_musicbrainz_is_told(runtime: Runtime, settings: Settings) -> None:
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA mbevents CASCADE")
        connection.execute("DROP SCHEMA musicbrainz CASCADE")
    findings = found(doctor.examine(runtime))
    assert "no schema musicbrainz" in findings["capture"].detail
    assert findings["log"].ok is None


def test_a_redis_that_refuses_writes_or_a_user_who_lacks_rights_is_a_fault(
    start_redis: Callable[..., RedisProcess],
) -> None:
    server = start_redis()
    settings = AWAY | {"redis_server": f"redis://some:one@127.0.0.1:{server.port}"}
    with redis.Redis.from_url(server.url()) as admin, open_runtime(Settings.model_validate(settings)) as runtime:
        admin.acl_setuser("some", enabled=True, passwords=["+one"], keys=["MB:*"], commands=["+@all"])
        assert found(doctor.examine(runtime))["redis sessions"].ok
        admin.replicaof("127.0.0.1", "1")
        told = found(doctor.examine(runtime))["redis sessions"]
        assert told.ok is False
        assert "ReadOnlyError" in told.detail
        assert "lead to the master" in str(told.fix)
        admin.replicaof("NO", "ONE")
        admin.acl_setuser("some", enabled=True, passwords=["+one"], keys=["MB:*"], commands=["-@dangerous"])
        told = found(doctor.examine(runtime))["redis sessions"]
        assert told.ok is False
        assert "'info' command" in told.detail
