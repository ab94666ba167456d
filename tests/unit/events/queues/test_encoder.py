"""Messages as JSON."""

from typing import Any

import pytest
from dramatiq import Message
from dramatiq.encoder import JSONEncoder
from dramatiq.errors import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from events.queues.encoder import MessageEncoder, encode_message

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_message_comes_back_as_it_was_and_dramatiqs_own_encoder_reads_it(kwargs: dict[str, Any]) -> None:
    message: Any = Message("q", "a", (1,), kwargs, {"task_id": 1})
    data = encode_message(message)
    for encoder in (MessageEncoder(), JSONEncoder()):
        fields = encoder.decode(data)
        assert Message(**{**fields, "args": tuple(fields["args"])}) == message
    assert MessageEncoder().encode(message.asdict()) == data


@pytest.mark.parametrize("data", [b"", b"[1]", b'"x"', b"\xff", b'{"a":'])
def test_anything_else_is_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        MessageEncoder().decode(data)
