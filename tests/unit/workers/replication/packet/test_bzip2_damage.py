"""Of a file that is damaged, or looks as if, we say what libbz2 says."""

import bz2
import io
import random
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.replication.packet import bzip2
from workers.replication.packet.bzip2 import Compressor, decompressed
from workers.replication.packet.errors import PacketError

from .making import cut

_TELLING = [
    b"\0",
    b"1AY&SY",
    b"\x17rE8P\x90",
    b"BZh9",
    b"BZh91AY&SY",
    b"BZh9\x17rE8P\x90\0\0\0\0",
    b"BZh9\x17rE8P\x90\0\0\0\1",
]

_contents = st.binary(max_size=300) | st.builds(
    lambda seed, size: random.Random(seed).randbytes(size), st.integers(), st.integers(0, 3000)
)


def _many_blocks(data: bytes) -> bytes:
    target = io.BytesIO()
    with mock.patch.object(bzip2, "_INPUT", 700), Compressor(target) as compressor:
        compressor.write(data)
    return target.getvalue()


_files = st.lists(
    st.builds(_many_blocks, _contents) | st.builds(bz2.compress, _contents, st.integers(1, 9)), min_size=1, max_size=3
).map(b"".join)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    file = draw(_files)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(file)))
        other = draw(st.integers(0, len(file)))
        some = draw(st.integers(1, 50))
        file = draw(
            st.sampled_from(
                [
                    file[:at],
                    file[:at] + file[at + some :],
                    file[:at] + file[other : other + some] + file[at:],
                    file[:at] + bytes([file[at] ^ 1 << some % 8]) + file[at + 1 :] if at < len(file) else file,
                    file + file[-some:],
                    *(file[:at] + telling + file[at:] for telling in _TELLING),
                    *(file + telling for telling in _TELLING),
                ]
            )
        )
    return file


def _by_libbz2(file: bytes) -> bytes | None:
    """What the file holds; None where it is not one stream after the other and nothing else."""
    parts = []
    while file:
        reader = bz2.BZ2Decompressor()
        try:
            parts.append(reader.decompress(file))
        except OSError:
            return None
        if not reader.eof:
            return None
        file = reader.unused_data
    return b"".join(parts) if parts else None


@settings(max_examples=300, deadline=None)
@given(_damaged(), st.integers(1, 2), st.sampled_from([13, 100, 4096]))
def test_damage_is_seen_where_libbz2_sees_it_and_only_there(file: bytes, threads: int, size: int) -> None:
    try:
        ours = b"".join(decompressed(cut(file, size), threads=threads, limit=1 << 30))
    except PacketError:
        assert _by_libbz2(file) is None
    else:
        assert ours == _by_libbz2(file)


def _block_of_codes(codes: bytes) -> tuple[bytes, bytes]:
    """A file of one block whose compressed symbols are these bytes (none 0, 1 or 255), and what it holds.

    The code is the plainest: of 254 characters, the two run lengths and the end, eight bits each, in order.
    """
    characters = list(range(254))
    column = []
    for code in codes:
        characters.insert(0, characters.pop(code - 1))  # move to front
        column.append(characters[0])
    order = sorted(range(len(column)), key=column.__getitem__)  # the transform, undone
    content, at = [], order[0]
    for _ in column:
        content.append(column[at])
        at = order[at]
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte << 24
        for _ in range(8):
            crc = crc << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if crc >> 31 else 0)
    crc ^= 0xFFFFFFFF
    selectors = len(codes) // 50 + 1
    table = f"{8:05b}" + "0" * 256
    bits = (
        f"{bzip2._BLOCK:048b}{crc:032b}" + "0" + f"{0:024b}" + "1" * 16 + "1" * 254 + "00"
        f"{2:03b}{selectors:015b}"
        + "0" * selectors
        + table * 2
        + "".join(f"{code:08b}" for code in codes + b"\xff")
        + f"{bzip2._END:048b}{crc:032b}"
    )
    bits += "0" * (-len(bits) % 8)
    return b"BZh9" + int(bits, 2).to_bytes(len(bits) // 8, "big"), bytes(content)


@pytest.mark.parametrize(
    "telling", ["1AY&SY", "\x17rE8P\x90", "BZh91AY&SY", "1AY&SY" * 8, "1AY&SYBZh9\x17rE8P\x90" * 3]
)
def test_a_block_may_hold_the_bits_that_blocks_and_streams_start_and_end_with(telling: str) -> None:
    noise = bytes(random.Random(1).choices(range(2, 255), k=200))
    file, content = _block_of_codes(noise + telling.encode("latin-1") + noise)
    assert bz2.decompress(file) == content

    for size in (1, 100, 5000):
        assert b"".join(decompressed(cut(file * 2, size), limit=1 << 30)) == content * 2
