"""Bodies as they come."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.http.body import Body
from workers.http.core import CallError, Kind


def taken(raw: bytes, encoding: str = "gzip", *, most: int = 10_000, piece: int = 7) -> bytes:
    body = Body(encoding, most)
    for start in range(0, len(raw), piece):
        body.feed(raw[start : start + piece])
    return body.end()


def kind(raw: bytes, encoding: str = "gzip", **options: int) -> Kind:
    with pytest.raises(CallError) as caught:
        taken(raw, encoding, **options)
    return caught.value.kind


@given(st.binary(max_size=5000), st.integers(1, 600), st.sampled_from(["gzip", "x-gzip", "GZIP", "identity", ""]))
def test_what_was_sent_comes_out_however_it_is_cut(data: bytes, piece: int, encoding: str) -> None:
    raw = gzip.compress(data) if "gzip" in encoding.lower() else data
    assert taken(raw, encoding, piece=piece) == data


def test_members_and_padding_of_a_gzip_file_are_one_body() -> None:
    raw = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two") + bytes(100)
    assert taken(raw) == taken(raw, piece=1) == b"one two"


@given(st.binary(max_size=300))
def test_rubbish_is_told_and_never_surprises(raw: bytes) -> None:
    if raw:
        assert kind(raw) in {Kind.BAD_ENCODING, Kind.TRUNCATED}


def test_a_byte_too_many_is_too_many() -> None:
    assert len(taken(gzip.compress(bytes(10_000)))) == len(taken(bytes(10_000), "")) == 10_000
    assert kind(gzip.compress(bytes(10_001))) is kind(bytes(10_001), "") is Kind.TOO_LARGE


def test_a_bomb_is_given_up_before_it_goes_off() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = Body("gzip", 1000)
    with pytest.raises(CallError) as caught:
        body.feed(packer.compress(bytes(32 << 20)) + packer.flush())
    assert caught.value.kind is Kind.TOO_LARGE
    assert len(body._decoded) <= 1001


def test_many_empty_members_are_too_large_as_well() -> None:
    assert kind(gzip.compress(b"") * 5000, piece=4096) is Kind.TOO_LARGE


def test_what_follows_a_member_and_is_none_is_told() -> None:
    assert kind(gzip.compress(b"one") + b"two") is Kind.BAD_ENCODING


def test_an_answer_without_a_body_needs_no_gzip() -> None:
    assert taken(b"") == b""
