"""Names are made and understood alike, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.replication.packet import names


@given(st.integers(0, 2**31 - 1), st.sampled_from([1, 2]))
def test_the_name_of_a_packet_says_which_it_is(sequence: int, version: int) -> None:
    name = names.packet_name(sequence, version)

    assert names.parse(name) == (sequence, version)
    assert names.parse(names.signature_name(name)) is None


def test_names_are_those_that_mirrors_ask_for() -> None:
    assert names.packet_name(100000, 1) == "replication-100000.tar.bz2"
    assert names.packet_name(100000, 2) == "replication-100000-v2.tar.bz2"
    assert names.signature_name("replication-7-v2.tar.bz2") == "replication-7-v2.tar.bz2.asc"
    assert names.digest_name(7) == "digest-7.json"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "replication-.tar.bz2",
        "replication-007.tar.bz2",
        "replication--1.tar.bz2",
        "replication-7-v1.tar.bz2",
        "replication-7-v3.tar.bz2",
        "replication-7.tar.bz2\n",
        "replication-٧.tar.bz2",
        "replication-99999999999.tar.bz2",
        "../replication-7.tar.bz2",
        "replication-7.tar.bz2.part",
        "digest-7.json",
    ],
)
def test_other_names_are_no_packets(name: str) -> None:
    assert names.parse(name) is None


@pytest.mark.parametrize(("sequence", "version"), [(-1, 2), (7, 0), (7, 3)])
def test_a_packet_that_cannot_be_has_no_name(sequence: int, version: int) -> None:
    with pytest.raises(ValueError, match="there is no packet"):
        names.packet_name(sequence, version)
