"""What becomes of a message that will not run again."""

from typing import Any

import orjson
import pytest
from dramatiq import Message
from hypothesis import given
from hypothesis import strategies as st

from events.queues.letters import letter_of, letter_of_corpse
from events.queues.types import Corpse

FIELDS: dict[str, Any] = {
    "queue_name": "caches",
    "actor_name": "caches.invalidate",
    "args": [],
    "kwargs": {"version": 1, "events": [{"id": "a"}]},
    "options": {"task_id": 5, "retries": 2},
    "message_id": "m-1",
    "message_timestamp": 1_700_000_000_000,
}


def corpse(data: bytes) -> Corpse:
    return Corpse(queue="caches", key=b"5", data=data, error="it was rejected")


def test_a_letter_tells_what_died_and_how_often_it_was_tried() -> None:
    letter = letter_of(Message(**FIELDS).asdict(), delivery_id="5", error="ValueError: no", redeliveries=1)
    assert (letter.queue, letter.actor, letter.message_id, letter.task_id) == ("caches", "caches.invalidate", "m-1", 5)
    assert (letter.attempts, letter.redeliveries, letter.error) == (3, 1, "ValueError: no")
    assert letter.message is not None
    assert orjson.loads(letter.message) == FIELDS
    assert letter.raw is None


def test_the_letter_of_a_delayed_message_names_its_queue() -> None:
    assert letter_of({**FIELDS, "queue_name": "caches.DQ"}, delivery_id="5", error="").queue == "caches"


def test_a_corpse_is_of_the_queue_in_which_it_was_found() -> None:
    letter = letter_of_corpse(corpse(orjson.dumps({**FIELDS, "queue_name": "elsewhere"})))
    assert letter.queue == "caches"
    assert orjson.loads(letter.message or b"{}")["queue_name"] == "caches"


def test_a_message_with_a_nul_in_it_is_kept_as_bytes_since_postgres_cannot_hold_it_as_json() -> None:
    data = orjson.dumps({**FIELDS, "kwargs": {"x": "a\0b"}})
    letter = letter_of_corpse(corpse(data))
    assert letter.message is None
    assert orjson.loads(letter.raw or b"")["kwargs"] == {"x": "a\0b"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        orjson.dumps({**FIELDS, "options": {"task_id": "five"}}),
        orjson.dumps({**FIELDS, "options": 3}),
        orjson.dumps({**FIELDS, "queue_name": None}),
        orjson.dumps({**FIELDS, "args": None}),
        orjson.dumps({**FIELDS, "surplus": 1}),
        orjson.dumps({k: v for k, v in FIELDS.items() if k != "actor_name"}),
    ],
)
def test_what_no_worker_could_run_is_kept_as_it_came(data: bytes) -> None:
    letter = letter_of_corpse(corpse(data))
    assert (letter.raw, letter.message, letter.task_id, letter.error) == (data, None, None, "it was rejected")


@given(st.binary())
def test_anything_can_be_told(data: bytes) -> None:
    letter = letter_of_corpse(corpse(data))
    assert (letter.message is None) != (letter.raw is None)


@given(st.binary())
def test_a_delivery_id_can_be_stored(key: bytes) -> None:
    assert "\0" not in Corpse("q", key, b"", "").delivery_id.encode().decode()
