import re
import threading
from pathlib import Path

import pytest

from events.errors import UnreachableError
from events.queues.worker import run_worker
from events.telemetry import Telemetry
from ops import metrics
from ops.generate import ROOT
from ops.metrics import PrometheusTelemetry
from ops.settings import RedisRole, Settings
from ops.stack import control
from ops.wiring import Runtime, open_runtime
from tests.integration.ops.conftest import rename


def page(telemetry: Telemetry) -> str:
    assert isinstance(telemetry, PrometheusTelemetry)
    return metrics.page(telemetry.registry).decode()


def test_a_committed_change_reaches_its_effect_and_is_measured(runtime: Runtime) -> None:
    with runtime.connection() as connection:
        row = connection.execute("SELECT gid::text FROM musicbrainz.artist WHERE id > 2 ORDER BY id").fetchone()
    assert row is not None
    cache = runtime.entity_cache
    before = cache.get_or_load("artist", row[0], runtime.load_entity)
    assert before is not None
    changed = rename(runtime)
    assert runtime.bridge.drain() == changed
    run_worker(runtime.worker_broker, threads=2, stop=threading.Event(), drain=True)
    assert cache.get("artist", row[0]) is None
    after = cache.get_or_load("artist", row[0], runtime.load_entity)
    assert after is not None
    assert b'!"' in after
    told = page(runtime.telemetry)
    assert f'mbevents_events_total{{type="entity.updated"}} {changed}.0' in told
    assert 'mbevents_jobs_total{actor="caches.invalidate",outcome="done",queue="caches"} 1.0' in told
    assert 'mbevents_end_to_end_seconds_count{actor="caches.invalidate"} 1.0' in told


def test_work_whose_message_was_lost_is_enqueued_again(runtime: Runtime) -> None:
    rename(runtime)
    runtime.bridge.drain()
    runtime.client(RedisRole.BROKER).flushall()
    with runtime.connection() as connection:
        connection.execute("UPDATE mbevents.task SET enqueued_at = now() - interval '1 hour'")
    assert runtime.requeuer.run_once() == 1
    assert sum(depth.waiting for depth in runtime.worker_broker.depths().values()) == 1
    assert runtime.reaper.run_once().returned == 0


@pytest.mark.parametrize("role", list(RedisRole))
def test_each_role_is_served_from_its_own_database(runtime: Runtime, role: RedisRole) -> None:
    runtime.client(role).set("here", role.name)
    for other in RedisRole:
        found = runtime.client(other).get("here")
        assert found == (role.name.encode() if other == role else None)


def test_a_redis_beside_a_configured_database_is_made_by_who_serves_and_then_used_by_questions(home: Path) -> None:
    settings = Settings.model_validate({"database_url": "postgresql://nowhere.invalid/mb", "mbevents_home": home})
    for serving in (True, False):
        with open_runtime(settings, create_redis=serving) as parts:
            assert parts.client(RedisRole.ENTITIES).ping()
    assert control.data_folder(home) is None


def test_who_serves_makes_no_database_by_the_way(home: Path) -> None:
    with (
        pytest.raises(UnreachableError, match="no embedded database"),
        open_runtime(Settings(mbevents_home=home), create_redis=True),
    ):
        pass
    assert not home.exists()


def test_a_program_gets_its_parts_as_the_documentation_says(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url is not None
    assert settings.redis_server is not None
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("REDIS_SERVER", settings.redis_server.get_secret_value())
    said = (ROOT / "ops/docs/redis.md").read_text().partition("## From Python")[2]
    example = re.search(r"```python\n(.*?)```", said, re.DOTALL)
    assert example is not None
    names: dict[str, object] = {}
    exec(example[1], names)
    assert b'"Moby"' in names["moby"]  # type: ignore[operator]


def test_what_the_documentation_calls_of_a_runtime_is_there() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "ops/docs").glob("*.md"))
    called = {
        name
        for block in re.findall(r"```python\n(.*?)```", pages, re.DOTALL)
        for name in re.findall(r"runtime\.(\w+)", block)
    }
    assert {"entity_cache", "sessions", "limiter", "http", "connect", "channels"} <= called
    assert [name for name in called if not hasattr(Runtime, name)] == []
