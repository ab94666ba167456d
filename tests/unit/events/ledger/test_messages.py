"""The message of work on events."""

import orjson

from events.ledger.messages import task_message
from events.queues.encoder import MessageEncoder, encode_message


def test_ledgered_work_names_its_task() -> None:
    message = task_message(5, queue="caches", actor="caches.invalidate", events=[{"id": "a"}])
    assert message.options == {"task_id": 5}
    assert message.kwargs == {"version": 1, "events": [{"id": "a"}]}


def test_other_work_names_none() -> None:
    assert task_message(None, queue="q", actor="a", events=[]).options == {}


def test_events_encoded_before_are_the_same_on_the_other_side() -> None:
    events = [{"id": "ä", "data": {"n": 2**53}}]
    plain = task_message(1, queue="q", actor="a", events=events)
    encoded = task_message(1, queue="q", actor="a", events=[orjson.Fragment(orjson.dumps(each)) for each in events])
    assert MessageEncoder().decode(encode_message(encoded))["kwargs"] == plain.kwargs
