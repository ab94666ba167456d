"""What `cache why` explains, for every state that an entry can be in."""

from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from ops.caches.why import explain
from ops.settings import RedisRole, Settings
from ops.wiring import Runtime, open_runtime
from tests.integration.ops.conftest import rename
from workers.caches import tags
from workers.caches.keys import EntityKey

TRENTEMOLLER = EntityKey("artist", "95e9aba6-f85c-48a0-9ec9-395d4f0e3875")
OLD = EntityKey("artist", "00000000-0000-4000-8000-000000000001")


def told(runtime: Runtime, key: EntityKey = TRENTEMOLLER, *, compare: bool = False) -> dict[str, Any]:
    """As `--json` prints it."""
    from ops.cli.output import _plain

    found: dict[str, Any] = orjson.loads(orjson.dumps(explain(runtime, key, compare=compare).to_dict(), default=_plain))
    return found


def load(runtime: Runtime, key: EntityKey = TRENTEMOLLER) -> None:
    runtime.entity_cache.get_or_load(*key, runtime.load_entity)


def keys(runtime: Runtime) -> dict[Any, Any]:
    client = runtime.client(RedisRole.ENTITIES)
    return {key: client.dump(key) for key in client.scan_iter()}


def test_an_entry_is_explained_and_nothing_is_changed(runtime: Runtime) -> None:
    load(runtime)
    before = keys(runtime)
    found = told(runtime, compare=True)
    (step,) = found["steps"]
    assert (step["cached"], step["void"], step["is"]) == (True, None, "a document")
    assert step["key"] == f"MB:entity:artist:{TRENTEMOLLER.mbid}"
    assert 3200 < step["fresh_seconds"] < 4000
    assert 0 <= step["age_seconds"] < 5
    assert 0 < step["load_seconds"] < 5
    assert step["tags"] == [{"tag": "every:artist", "number": 0}]
    assert step["lease_seconds"] is None
    assert [each["equal"] for each in found["compared"]] == [True]
    assert keys(runtime) == before


def test_what_was_never_asked_for_is_not_cached_and_nothing_begins(runtime: Runtime) -> None:
    (step,) = told(runtime)["steps"]
    assert (step["cached"], step["void"], step["is"], step["epoch"]) == (False, None, None, None)
    assert keys(runtime) == {}


def test_a_tag_that_was_invalidated_afterwards_is_named_with_its_number(runtime: Runtime) -> None:
    load(runtime)
    runtime.leased(RedisRole.ENTITIES).forget(tags=["every:artist"])
    (step,) = told(runtime)["steps"]
    assert step["cached"] is False
    assert step["void"] == "its tag every:artist was invalidated at 1, after the entry's 0"
    assert (step["as_of"], step["clock"]) == (0, 1)


def test_an_entry_is_void_when_its_tag_is_gone_or_another_epoch_began(runtime: Runtime) -> None:
    load(runtime)
    client = runtime.client(RedisRole.ENTITIES)
    client.delete(f"MB:entity:tag:{tags.every('artist')}")
    assert "is gone" in told(runtime)["steps"][0]["void"]
    client.hset("MB:entity:clock", "epoch", "feed")
    assert "ended: Redis was restarted" in told(runtime)["steps"][0]["void"]


def test_after_a_restart_it_is_told_that_the_next_reader_begins_anew(runtime: Runtime) -> None:
    load(runtime)
    runtime.client(RedisRole.ENTITIES).hset("MB:entity:clock", "history", "another")
    assert "restarted" in told(runtime)["steps"][0]["void"]


def test_an_old_mbid_is_followed_and_both_are_explained(runtime: Runtime) -> None:
    with runtime.connection() as connection:
        connection.execute(
            "INSERT INTO musicbrainz.artist_gid_redirect (gid, new_id) "
            "SELECT %s, id FROM musicbrainz.artist WHERE gid = %s",
            (OLD.mbid, TRENTEMOLLER.mbid),
        )
    load(runtime, OLD)
    found = told(runtime, OLD, compare=True)
    assert [(step["is"], step["leads_to"]) for step in found["steps"]] == [
        ("a redirect", TRENTEMOLLER.mbid),
        ("a document", None),
    ]
    assert [each["equal"] for each in found["compared"]] == [True, True]


def test_who_holds_the_lease_and_how_long_is_told(runtime: Runtime) -> None:
    assert runtime.leased(RedisRole.ENTITIES).lease(TRENTEMOLLER.name).lease is not None
    assert 9 < told(runtime)["steps"][0]["lease_seconds"] <= 10


def test_what_differs_from_the_database_is_named_until_its_event_has_come(runtime: Runtime) -> None:
    load(runtime)
    rename(runtime)
    (compared,) = told(runtime, compare=True)["compared"]
    assert (compared["equal"], compared["differs"]) == (False, ["last_updated", "name"])
    runtime.bridge.drain()
    runtime.invalidator.invalidate(each for each in told(runtime)["events"])
    found = told(runtime, compare=True)
    assert (found["steps"][0]["cached"], found["compared"]) == (False, [])
    assert [each["type"].split(".")[-2] for each in found["events"]] == ["updated"]


@pytest.mark.parametrize(
    ("away", "address"),
    [("redis_server", "redis://127.0.0.1:1"), ("database_url", "postgresql://x:s3cret@127.0.0.1:1/x")],
)
def test_a_server_that_is_away_is_told_and_the_rest_all_the_same(
    runtime: Runtime, settings: Settings, away: str, address: str
) -> None:
    load(runtime)
    with open_runtime(settings.model_copy(update={away: SecretStr(address)})) as parts:
        found = told(parts, compare=True)
    assert "s3cret" not in str(found)
    if away == "redis_server":
        assert found["redis"]["problem"] is not None
        assert (found["steps"][0]["cached"], found["compared"], found["events"]) == (False, [], [])
    else:
        assert found["steps"][0]["cached"] is True
        assert found["problem"] is not None
