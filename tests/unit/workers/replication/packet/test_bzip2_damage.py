"""Of a damaged file we say what libbz2 says, block by block or not."""

import bz2
import io
import random
from unittest import mock

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
