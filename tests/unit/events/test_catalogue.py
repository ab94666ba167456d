import re

import pytest

from events.catalogue import ACTORS, EVENT_TYPES, SLOW_QUEUES, actors_for, event_type
from events.channels import editor_channel, event_channel
from events.errors import UsageError
from schemas.envelope import short_name
from schemas.values import Payload

QUEUES = {"caches", "wikimedia", "reviews", "artwork", "replication", "notifications", "accounts"}


def test_types_are_named_by_subject_and_past_tense() -> None:
    for name, event in EVENT_TYPES.items():
        assert name == event.name == short_name(event.full_name)
        assert re.fullmatch(r"[a-z]+\.[a-z]+ed", name)


def test_payloads_are_frozen_and_say_what_happened() -> None:
    for event in EVENT_TYPES.values():
        assert issubclass(event.payload, Payload)
        assert event.payload.model_config["frozen"]
        assert event.payload.__doc__


def test_actors_have_the_queues_that_others_rely_on_and_one_description_each() -> None:
    for event in EVENT_TYPES.values():
        for actor in event.actors:
            assert actor.queue in QUEUES
            assert ACTORS[actor.name] == actor


def test_no_work_waits_for_slow_work() -> None:
    assert {actor.queue for actor in ACTORS.values() if not actor.slow}.isdisjoint(SLOW_QUEUES)
    assert {"replication", "statistics"} == SLOW_QUEUES


def test_what_changes_an_entity_invalidates_caches_by_ledger() -> None:
    names = {name for name in EVENT_TYPES if any(actor.name == "caches.invalidate" for actor in actors_for(name))}
    assert names == {name for name in EVENT_TYPES if name.startswith(("entity.", "link.", "table."))}
    assert ACTORS["caches.invalidate"].ledgered


def test_what_may_bar_an_editor_ends_sessions_by_ledger() -> None:
    names = {name for name in EVENT_TYPES if any(actor.name == "accounts.end_sessions" for actor in actors_for(name))}
    assert names == {"editor.updated", "editor.deleted"}
    assert ACTORS["accounts.end_sessions"].ledgered


def test_an_unknown_type_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"'entity\.exploded'.*entity\.updated"):
        event_type("entity.exploded")


def test_channels_are_named_as_others_rely_on() -> None:
    assert event_channel("MB", "edit.opened") == "MB:events:edit.opened"
    assert editor_channel("MB", 123) == "MB:notify:editor:123"
